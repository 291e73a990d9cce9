"""Trajectories: validation, parts, windows, noise, conversion."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError


def runs(n_times=9, n=4, d=2, dtype=torch.float64, **rest):
    generator = torch.Generator().manual_seed(n_times + 10 * n + 100 * d)
    y = torch.randn(n_times, n, d, generator=generator, dtype=dtype)
    return Trajectory(torch.arange(n_times, dtype=dtype) / 4, y, **rest)


class TestValidation:
    t, y = torch.linspace(0, 1, 5), torch.zeros(5, 3, 2)

    def test_accepts_decreasing_times_and_known_derivatives(self):
        data = Trajectory(self.t.flip(0), self.y, self.y)
        assert (data.n, data.d, len(data)) == (3, 2, 3)
        assert data.dtype == torch.float32 and data.device == torch.device("cpu")

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"y": torch.zeros(5, 2)}, ArgumentError, r"Pass y\[:, None\]"),
            ({"y": torch.zeros(3, 5, 2)}, ArgumentError, "time comes first"),
            ({"y": torch.zeros(4, 3, 2)}, ArgumentError, "4 samples for 5 times"),
            ({"y": torch.zeros(5, 0, 2)}, ArgumentError, "at least one run"),
            ({"y": torch.zeros(5, 3, 2).long()}, ArgumentTypeError, r"Pass y\.double"),
            ({"y": [[0.0]]}, ArgumentTypeError, "must be a tensor, got list"),
            ({"y": torch.full((5, 3, 2), torch.nan)}, ArgumentError, r"`y` must be finite, got nan at \[0, 0, 0\]"),
            ({"y": torch.full((5, 3, 2), torch.inf)}, ArgumentError, "got inf"),
            ({"t": torch.arange(5)}, ArgumentTypeError, "floating-point"),
            ({"t": torch.zeros(0), "y": torch.zeros(0, 3, 2)}, ArgumentError, "T >= 1"),
            ({"t": torch.tensor([0.0, 2.0, 1.0, 3.0, 4.0])}, ArgumentError, "strictly increasing"),
            ({"t": torch.tensor([0.0, 1.0, 1.0, 2.0, 3.0])}, ArgumentError, "drop repeats"),
            ({"t": torch.tensor([0.0, 1.0, torch.nan, 2.0, 3.0])}, ArgumentError, "`t` must be finite"),
            ({"y": torch.zeros(5, 3, 2, device="meta")}, ArgumentError, "Move them to one device"),
            ({"dy": torch.zeros(4, 3, 2)}, ArgumentError, "`dy` must have the shape"),
            ({"names": ("q",)}, ArgumentError, "one entry for each of the 2"),
        ],
    )
    def test_rejects(self, arguments, error, message):
        with pytest.raises(error, match=message):
            Trajectory(**{"t": self.t, "y": self.y, **arguments})


class TestParts:
    @given(n=st.integers(2, 20), fraction=st.floats(0.05, 0.95), seed=st.none() | st.integers(0, 99))
    @settings(deadline=None, max_examples=30)
    def test_split_keeps_every_run_once(self, n, fraction, seed):
        data = Trajectory(torch.zeros(1), torch.arange(n, dtype=torch.float32).reshape(1, n, 1))
        if round(fraction * n) in (0, n):
            with pytest.raises(ArgumentError, match="leaves a part empty"):
                data.split(fraction, seed)
            return
        first, second = data.split(fraction, seed)
        assert first.n == round(fraction * n)
        kept = torch.cat([first.y, second.y], dim=1).flatten()
        if seed is None:
            assert torch.equal(kept, data.y.flatten())
        assert torch.equal(kept.sort().values, data.y.flatten())

    def test_split_shuffles_by_seed_only(self):
        data = runs(n=20)
        state = torch.get_rng_state()
        assert torch.equal(data.split(0.5, 1)[0].y, data.split(0.5, 1)[0].y)
        assert not torch.equal(data.split(0.5, 1)[0].y, data.split(0.5, 2)[0].y)
        assert torch.equal(torch.get_rng_state(), state)

    def test_one_run_splits_by_time(self):
        data = runs(n_times=10, n=1)
        with pytest.raises(ArgumentError, match="split_time"):
            data.split(0.8)
        first, second = data.split_time(0.8)
        assert torch.equal(torch.cat([first.t, second.t]), data.t) and len(first.t) == 8

    @pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5])
    def test_fraction_out_of_range(self, fraction):
        with pytest.raises(ArgumentError, match="between 0 and 1"):
            runs().split(fraction)

    def test_indexing(self):
        data = runs(dy=torch.ones(9, 4, 2, dtype=torch.float64))
        assert torch.equal(data[-1].y, data.y[:, 3:])
        assert torch.equal(data[np.int64(-1)].y, data.y[:, 3:]) and torch.equal(data[torch.tensor(3)].y, data.y[:, 3:])
        assert torch.equal(data[1:3].y, data.y[:, 1:3])
        assert torch.equal(data[[2, 0]].y, data.y[:, [2, 0]])
        assert torch.equal(data[torch.tensor([True, False, False, True])].dy, data.dy[:, [0, 3]])
        assert len(list(data)) == 4
        with pytest.raises(IndexError):
            data[4]

    def test_cat_is_the_inverse_of_split(self):
        data = runs(n=5, dy=torch.ones(9, 5, 2, dtype=torch.float64))
        joined = Trajectory.cat(data.split(0.4))
        assert torch.equal(joined.y, data.y) and torch.equal(joined.dy, data.dy)

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (runs(n_times=8), "share their times"),
            (runs(d=3), "share dimension and dtype"),
            (runs(dtype=torch.float32), "share dimension and dtype"),
        ],
    )
    def test_cat_rejects_what_does_not_fit(self, other, message):
        with pytest.raises(ArgumentError, match=message):
            Trajectory.cat([runs(), other])
        with pytest.raises(ArgumentError, match="at least one"):
            Trajectory.cat([])

    def test_cat_compares_times_in_steps(self):
        t, y = torch.linspace(0, 1, 11, dtype=torch.float64), torch.zeros(11, 1, 2, dtype=torch.float64)
        with pytest.raises(ArgumentError, match="share their times"):
            Trajectory.cat([Trajectory(2459000.5 + t, y), Trajectory(2459000.55 + t, y)])
        centred = torch.linspace(-0.5, 0.5, 11, dtype=torch.float64)
        assert Trajectory.cat([Trajectory(t - 0.5, y), Trajectory(centred, y)]).n == 2

    def test_cat_does_not_mix_components_up(self):
        t, y = torch.linspace(0, 1, 3), torch.zeros(3, 1, 2)
        with pytest.raises(ArgumentError, match="share their components"):
            Trajectory.cat([Trajectory(t, y, names=("q", "p")), Trajectory(t, y, names=("p", "q"))])


class TestWindows:
    @given(n_times=st.integers(1, 12), n=st.integers(1, 3), length=st.integers(1, 6), stride=st.integers(1, 4))
    @settings(deadline=None, max_examples=30)
    def test_every_window_is_a_stretch_of_its_run(self, n_times, n, length, stride):
        data = runs(n_times, n, dy=torch.zeros(n_times, n, 2, dtype=torch.float64))
        if length > n_times:
            with pytest.raises(ArgumentError, match="at most"):
                data.windows(length, stride)
            return
        windows = data.windows(length, stride)
        starts = list(range(0, n_times - length + 1, stride))
        expected = [data.y[s : s + length, run] for run in range(n) for s in starts]
        assert torch.equal(windows.y, torch.stack(expected, dim=1))
        assert windows.dy.shape == windows.y.shape
        assert torch.equal(windows.t, data.t[:length])

    def test_even_times_in_float32_far_from_zero(self):
        t = torch.linspace(0, 1000, 20001)
        assert Trajectory(t, torch.zeros(20001, 1, 1)).windows(5).n == 19997

    def test_uneven_times_are_refused(self):
        data = Trajectory(torch.tensor([0.0, 1.0, 3.0]), torch.zeros(3, 1, 2))
        with pytest.raises(ArgumentError, match="evenly spaced"):
            data.windows(2)
        with pytest.raises(ArgumentError, match="at least 1"):
            data.windows(2, 0)


class TestNoise:
    def test_statistics(self):
        clean = Trajectory(torch.arange(200.0), torch.zeros(200, 100, 2), torch.ones(200, 100, 2))
        noisy = clean.noise([0.1, 2.0], seed=3)
        residual = noisy.y.flatten(0, 1)
        assert torch.allclose(residual.std(0), torch.tensor([0.1, 2.0]), rtol=0.02)
        assert (residual.mean(0).abs() < 4 * torch.tensor([0.1, 2.0]) / 20000**0.5).all()
        assert torch.corrcoef(residual.T)[0, 1].abs() < 0.03
        assert torch.equal(noisy.dy, clean.dy)

    def test_seeded(self):
        data, state = runs(), torch.get_rng_state()
        assert torch.equal(data.noise(1.0, 0).y, data.noise(1.0, torch.Generator().manual_seed(0)).y)
        assert not torch.equal(data.noise(1.0, 0).y, data.noise(1.0, 1).y)
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("std", [-1.0, [0.1, 0.1, 0.1], [[0.1]], float("nan")])
    def test_rejects(self, std):
        with pytest.raises(ArgumentError, match="`std`"):
            runs().noise(std, 0)


class TestConversion:
    @given(
        n_times=st.integers(1, 5),
        n=st.integers(1, 4),
        d=st.integers(1, 3),
        dtype=st.sampled_from([torch.float32, torch.float64]),
        derivatives=st.booleans(),
        labelled=st.booleans(),
    )
    @settings(deadline=None, max_examples=20)
    def test_xarray_round_trip(self, n_times, n, d, dtype, derivatives, labelled):
        labels = {"names": tuple("abc"[:d]), "units": ("m",) * d, "time_unit": "s"} if labelled else {}
        data = runs(n_times, n, d, dtype, **labels)
        if derivatives:
            data = Trajectory(data.t, data.y, data.y + 1, **labels)
        dataset = data.to_xarray()
        assert dict(dataset.sizes) == {"time": n_times, "run": n, "state": d}
        assert_same(Trajectory.from_xarray(dataset.transpose("run", "state", "time")), data)

    def test_netcdf_round_trip(self, tmp_path):
        data = runs(names=("q", "p"), units=("rad", "kg m^2/s"), time_unit="s").derivatives()
        data.save(tmp_path / "runs.nc")
        assert_same(Trajectory.load(tmp_path / "runs.nc"), data)
        data[:1].save(str(tmp_path / "runs.nc"))
        assert Trajectory.load(tmp_path / "runs.nc").n == 1
        assert [path.name for path in tmp_path.iterdir()] == ["runs.nc"]

    def test_a_failed_save_leaves_the_old_file(self, tmp_path, monkeypatch):
        import xarray

        def broken(self, path, **rest):
            path.write_text("half a")
            raise OSError("disk full")

        runs(n=1).save(tmp_path / "runs.nc")
        monkeypatch.setattr(xarray.Dataset, "to_netcdf", broken)
        with pytest.raises(OSError, match="disk full"):
            runs(n=2).save(tmp_path / "runs.nc")
        assert Trajectory.load(tmp_path / "runs.nc").n == 1
        assert [path.name for path in tmp_path.iterdir()] == ["runs.nc"]

    def test_other_files_and_datasets_are_refused(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            Trajectory.load(tmp_path / "none.nc")
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            runs().save(tmp_path / "none" / "runs.nc")
        (tmp_path / "text.nc").write_text("no data")
        with pytest.raises(ArgumentError, match="is not a netCDF file"):
            Trajectory.load(tmp_path / "text.nc")
        with pytest.raises(ArgumentError, match="Rename"):
            Trajectory.from_xarray(runs().to_xarray().rename(run="trial"))
        with pytest.raises(ArgumentError, match="Rename"):
            Trajectory.from_xarray(runs().to_xarray().drop_vars("y"))
        with pytest.raises(ArgumentTypeError, match=r"must be an xarray\.Dataset, got DataArray"):
            Trajectory.from_xarray(runs().to_xarray()["y"])
        dates = np.datetime64("2020-01-01", "ns") + np.arange(9) * np.timedelta64(1, "D")
        with pytest.raises(ArgumentTypeError, match=r"`time` must hold numbers, got datetime64.*decode_times=False"):
            Trajectory.from_xarray(runs().to_xarray().assign_coords(time=dates))

    def test_dtype_and_graph(self):
        weight = torch.ones((), requires_grad=True)
        data = Trajectory(torch.zeros(1), weight * torch.ones(1, 1, 1))
        assert data.y.requires_grad and not data.detach().y.requires_grad
        assert data.to(dtype=torch.float64).t.dtype == data.to(dtype=torch.float64).dtype == torch.float64
        assert data.to_xarray()["y"].item() == 1


def assert_same(a, b):
    assert (a.names, a.units, a.time_unit) == (b.names, b.units, b.time_unit)
    assert torch.equal(a.t, b.t) and torch.equal(a.y, b.y) and a.dtype == b.dtype
    assert (a.dy is None) == (b.dy is None)
    if a.dy is not None:
        assert torch.equal(a.dy, b.dy)
