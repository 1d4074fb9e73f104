// What module.cpp wires together.
#pragma once

#include <pybind11/pybind11.h>

namespace slidegate::bindings {

void bind_quota(pybind11::module_& module);
void bind_clock(pybind11::module_& module);
void bind_segment(pybind11::module_& module);
void bind_limiter(pybind11::module_& module);
void bind_headers(pybind11::module_& module);
void bind_shortcut(pybind11::module_& module);
void bind_take(pybind11::module_& module);

}  // namespace slidegate::bindings
