// Functions of Python that remember something: built-in ones, as those of pybind11 take longer to call than their work.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include <Python.h>
#include <pybind11/pybind11.h>

namespace slidegate::bindings {

using FastFunction = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t) noexcept;

/// What PyMethodDef wants for a METH_FASTCALL function.
[[nodiscard]] inline PyCFunction fast(FastFunction function) noexcept {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

/// The function that gets `memory` as its first argument. `method` must be static. The garbage collector sees what a tuple
/// holds, so whatever takes part in cycles belongs there.
[[nodiscard]] inline pybind11::object closure(PyMethodDef& method, const pybind11::handle& memory) {
    auto function = pybind11::reinterpret_steal<pybind11::object>(PyCFunction_New(&method, memory.ptr()));
    if (!function) {
        throw pybind11::error_already_set();
    }
    return function;
}

/// A capsule that owns a C++ object, which may refer to no Python object that can be part of a cycle.
template <typename Owned>
[[nodiscard]] pybind11::capsule capsule_of(std::unique_ptr<Owned> owned) {
    return pybind11::capsule(owned.release(), [](void* pointer) { delete static_cast<Owned*>(pointer); });
}

template <typename Owned>
[[nodiscard]] Owned& owned_by(PyObject* capsule) noexcept {
    return *static_cast<Owned*>(PyCapsule_GetPointer(capsule, nullptr));
}

/// An owned reference that may be null.
class Owned {
  public:
    Owned() noexcept = default;
    explicit Owned(PyObject* object) noexcept : object_(object) {}
    Owned(Owned&& other) noexcept : object_(other.release()) {}
    Owned(const Owned&) = delete;
    Owned& operator=(Owned&& other) noexcept {
        PyObject* old = object_;
        object_ = other.release();
        Py_XDECREF(old);
        return *this;
    }
    ~Owned() { Py_XDECREF(object_); }

    [[nodiscard]] PyObject* get() const noexcept { return object_; }
    [[nodiscard]] PyObject* release() noexcept {
        PyObject* object = object_;
        object_ = nullptr;
        return object;
    }
    [[nodiscard]] explicit operator bool() const noexcept { return object_ != nullptr; }

  private:
    PyObject* object_ = nullptr;
};

/// The keys that are looked up in scopes and their state.
struct Names {
    PyObject* root_path = PyUnicode_InternFromString("root_path");
    PyObject* method = PyUnicode_InternFromString("method");
    PyObject* path = PyUnicode_InternFromString("path");
    PyObject* client = PyUnicode_InternFromString("client");
    PyObject* state = PyUnicode_InternFromString("state");
    PyObject* view = PyUnicode_InternFromString("view_rate_limit");
    PyObject* complete = PyUnicode_InternFromString("_rate_limiting_complete");
    PyObject* essentials = PyUnicode_InternFromString("raw_decision");
    PyObject* record = PyUnicode_InternFromString("_slidegate");
};

/// Whether objects of a class are tuples inside too, so that Python itself would make one by tuple.__new__.
[[nodiscard]] inline bool is_kind_of_tuple(const pybind11::handle& type) {
    if (!PyType_Check(type.ptr()) ||
        PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type.ptr()), &PyTuple_Type) == 0) {
        return false;
    }
    // Raises for those that have another size than a tuple thinks, as time.struct_time.
    pybind11::handle(reinterpret_cast<PyObject*>(&PyTuple_Type)).attr("__new__")(type);
    return true;
}

/// What a hit answers.
[[nodiscard]] inline bool are_essentials(PyObject* essentials) noexcept {
    return essentials != nullptr && PyTuple_CheckExact(essentials) && PyTuple_GET_SIZE(essentials) == 5;
}

/// Interned once, and kept as long as the process.
[[nodiscard]] inline const Names& names() {
    static const Names all;
    return all;
}

}  // namespace slidegate::bindings
