// What is known of one request, for `slidegate._http.state`, which says what the members mean.
#pragma once

#include <Python.h>

namespace slidegate::bindings {

/// Members are owned, or null, which Python sees as None. Protected by the interpreter's lock.
struct Record {
    PyObject ob_base;
    PyObject* scope;
    PyObject* holder;
    PyObject* state;
    PyObject* entered;
    PyObject* method;
    PyObject* path;
    PyObject* reached;
    PyObject* done;
    PyObject* view;
    PyObject* told_by;
    PyObject* taken;
    PyObject* decided;
    PyObject* injected;
    PyObject* holds;
    PyObject* is_held_by_middleware;

    /// Whether nothing was decided yet of the request with this scope, on whose way in middleware has made the record.
    [[nodiscard]] bool is_fresh(PyObject* of) const noexcept {
        return scope == of && done == nullptr && told_by == nullptr && taken == nullptr;
    }
};

/// The type, made once; null with an error set when that failed.
[[nodiscard]] PyTypeObject* record_type() noexcept;

/// The record among the values of a scope, borrowed; null when there is none. The type must have been made.
[[nodiscard]] Record* record_in(PyObject* scope) noexcept;

/// A new reference to an empty record; null with an error set.
[[nodiscard]] Record* new_record() noexcept;

/// Takes over `value`, a new reference, in the place of what a member was.
inline void put(PyObject*& member, PyObject* value) noexcept {
    PyObject* old = member;
    member = value;
    Py_XDECREF(old);
}

}  // namespace slidegate::bindings
