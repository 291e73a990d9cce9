# A hollow square beam of 2 m, held at one end, 1.5 kN at the other, tapered: mass, tip deflection and stress.
BEGIN {
    density["steel"] = 7850; modulus["steel"] = 210e9
    density["aluminium"] = 2700; modulus["aluminium"] = 70e9
    density["titanium"] = 4430; modulus["titanium"] = 114e9
}
{ given[$1] = $2 }
END {
    side = given["side"]; wall = given["wall"]; taper = given["taper"]; material = given["material"]
    if (!(material in density)) { print "no such material: " material > "/dev/stderr"; exit 2 }
    n = 400; step = 2 / n
    for (i = n - 1; i >= 0; i--) {  # from the tip: the curvature's moment about the tip is its deflection
        x = (i + 0.5) * step
        b = side * (1 - taper * x / 2); inner = b - 2 * wall
        if (inner < 0) { print "the walls meet at " x " m" > "/dev/stderr"; exit 3 }
        inertia = (b ^ 4 - inner ^ 4) / 12
        moment = 1500 * (2 - x)
        deflection += moment * (2 - x) / (modulus[material] * inertia) * step
        mass += density[material] * (b ^ 2 - inner ^ 2) * step
        if (moment * b / 2 / inertia > stress) stress = moment * b / 2 / inertia
    }
    mass += 0.2 * given["bolts"]
    printf "mass = %.6f kg\ndeflection = %.6f mm\nstress = %.6f MPa\n", mass, 1e3 * deflection, stress / 1e6
    printf "load on a bolt = %.6f kN\n", 3 / side / given["bolts"]
}
