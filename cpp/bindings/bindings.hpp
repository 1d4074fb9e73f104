// What module.cpp wires together.
//
// A method or property that is bound by the address of a member function has to say py::pos_only(), or name its arguments:
// pybind11 refuses None for `self` only then, and hands on a null pointer otherwise.
#pragma once

#include <string>
#include <utility>

#include <pybind11/pybind11.h>

namespace slidegate::bindings {

void bind_quota(pybind11::module_& module);
void bind_clock(pybind11::module_& module);
void bind_segment(pybind11::module_& module);
void bind_limiter(pybind11::module_& module);
void bind_headers(pybind11::module_& module);
void bind_redis(pybind11::module_& module);

/// Takes over a new reference, which may be null.
inline pybind11::object steal(PyObject* object) { return pybind11::reinterpret_steal<pybind11::object>(object); }

/// Without this, the old protocols of pickle would end the process, as pybind11's own base class cannot be made.
template <class... Options>
void forbid_copies(pybind11::class_<Options...> type) {
    type.def("__reduce__", [](const pybind11::object& self) -> pybind11::object {
        throw pybind11::type_error("cannot copy or pickle '" + std::string(Py_TYPE(self.ptr())->tp_name) + "' object");
    });
}

/// For a class whose objects only the engine makes: without this, __new__ alone would make one around no engine object at all.
template <class... Options>
void forbid_new(pybind11::class_<Options...> type) {
    reinterpret_cast<PyTypeObject*>(type.ptr())->tp_new = nullptr;
    forbid_copies(type);
}

/// What makes the objects of a class for Python, kept as long as the process.
template <class Class>
inline PyObject* maker_of = nullptr;

/// For a final class whose objects Python makes: `function` returns a whole one for the arguments of the call, which `extra`
/// names. There is no __init__, so that none is seen before it is whole, or made twice. Needs forbid_copies, or a __reduce__.
template <class Class, class... Options, class Function, class... Extra>
void make_whole(const pybind11::class_<Class, Options...>& type, Function&& function, const Extra&... extra) {
    auto* python_type = reinterpret_cast<PyTypeObject*>(type.ptr());
    maker_of<Class> =
        pybind11::cpp_function(std::forward<Function>(function), pybind11::name(python_type->tp_name), extra...)
            .release()
            .ptr();
    python_type->tp_new = [](PyTypeObject*, PyObject* arguments, PyObject* keywords) {
        return PyObject_Call(maker_of<Class>, arguments, keywords);
    };
    python_type->tp_init = [](PyObject*, PyObject*, PyObject*) { return 0; };
}

}  // namespace slidegate::bindings
