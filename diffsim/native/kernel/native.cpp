// What Python calls, in one piece: the solvers share their templates. The products are built beside it.
#include "adaptive_calls.hpp"
#include "fixed_calls.hpp"
#include "midpoint_calls.hpp"
