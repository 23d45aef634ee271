"""The units of the compiled lane, as declarations with `cdef inline` functions: `net/_lane.pyx` is compiled with them.

    system text  <  _lane

A unit is a `.pxd`: structs, which are passed by pointer, and functions, all of them inline. So the units become one extension
module, with one runtime of Cython's, and a call from one unit into another costs what a call inside a unit costs. A `.pxd` has no
variables and no classes: what a unit keeps stands in its struct, and `Lane` is the only class.
"""
