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

/// What a hit answers.
[[nodiscard]] inline bool are_essentials(PyObject* essentials) noexcept {
    return essentials != nullptr && PyTuple_CheckExact(essentials) && PyTuple_GET_SIZE(essentials) == 5;
}

}  // namespace slidegate::bindings
