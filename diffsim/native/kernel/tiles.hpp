// A batch cut into tiles that threads share.
#pragma once
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "field.hpp"

using Purpose = NetworkWork::Purpose;

// Rows of a tile: the records of all stages should stay in the second-level cache.
inline int tile_rows(const Field& field, int rows, int records) {
  const size_t row = FieldRecord(field).numbers() * sizeof(Real) * records;
  int most = kTile;
  while (most > kTile / 4 && row * most > 400000) most /= 2;
  const int tiles = (rows + most - 1) / most;
  return (rows + tiles - 1) / tiles;
}

// Threads make a worker each, which is called with the first row and the number of rows of one tile after the other.
template <class Make>
int in_tiles(int rows, int tile, int threads, Make make) {
  const int tiles = (rows + tile - 1) / tile;
  std::atomic<int> next{0}, failed{0};
  std::mutex one_at_a_time;
  auto work = [&] {
    try {
      auto worker = make(tile);
      for (int i; (i = next++) < tiles;) worker.run(i * tile, rows - i * tile < tile ? rows - i * tile : tile);
      const std::lock_guard<std::mutex> guard(one_at_a_time);
      worker.finish();
    } catch (const std::exception&) {
      failed = 1;
    }
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads && i < tiles; ++i) {
    try {
      others.emplace_back(work);
    } catch (const std::exception&) {
      break;  // fewer threads do as well
    }
  }
  work();
  for (std::thread& other : others) other.join();
  return failed;
}

inline Purpose forward_purpose(const Real* tape) { return tape != nullptr ? Purpose::kState : Purpose::kForward; }
inline Purpose reverse_purpose(int weights) { return weights ? Purpose::kWeights : Purpose::kState; }

// A solver, or evaluations, with what is done to each tile.
template <class Solver, class Body>
struct Worker {
  Solver solver;
  Body body;
  void run(int first, int rows) { body(solver, first, rows); }
  void finish() { solver.finish(); }
};

// 1 where memory was not enough.
template <class Call>
int guarded(Call call) {
  try {
    return call();
  } catch (const std::exception&) {
    return 1;
  }
}
