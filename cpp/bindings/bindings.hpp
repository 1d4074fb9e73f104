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
void bind_record(pybind11::module_& module);
void bind_redis(pybind11::module_& module);

/// For a class whose objects only the engine makes: without this, __new__ alone would make one around no engine object at all.
inline void forbid_new(pybind11::handle type) { reinterpret_cast<PyTypeObject*>(type.ptr())->tp_new = nullptr; }

}  // namespace slidegate::bindings
