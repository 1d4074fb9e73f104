#include "arguments.hpp"

#include <limits>

namespace slidegate::bindings {

namespace {

// Has `add` read the one argument, or each of a tuple of them.
template <class Add>
bool read_each(PyObject* argument, std::size_t rules, const char* what, Add add) noexcept {
    if (!PyTuple_Check(argument)) {
        return add(argument);
    }
    const Py_ssize_t size = PyTuple_GET_SIZE(argument);
    if (static_cast<std::size_t>(size) != rules) {
        PyErr_Format(PyExc_ValueError, "a policy of %zu rules takes one %s or a tuple of %zu, not of %zd", rules, what,
                     rules, size);
        return false;
    }
    for (Py_ssize_t i = 0; i < size; ++i) {
        if (!add(PyTuple_GET_ITEM(argument, i))) {
            return false;
        }
    }
    return true;
}

}  // namespace

Keys::~Keys() {
    while (encoded_size_ > 0) {
        Py_DECREF(encoded_[--encoded_size_]);
    }
}

bool Keys::add(PyObject* key) noexcept {
    if (PyUnicode_Check(key)) {
        Py_ssize_t size = 0;
        const char* data = PyUnicode_AsUTF8AndSize(key, &size);
        if (data == nullptr) {
            // Lone surrogates have no UTF-8, but whoever sends them is to be counted like anybody else.
            PyErr_Clear();
            PyObject* encoded = PyUnicode_AsEncodedString(key, "utf-8", "surrogatepass");
            if (encoded == nullptr) {
                return false;
            }
            encoded_[encoded_size_++] = encoded;
            key = encoded;
        } else {
            views_[size_++] = {data, static_cast<std::size_t>(size)};
            return true;
        }
    }
    if (PyBytes_Check(key)) {
        views_[size_++] = {PyBytes_AS_STRING(key), static_cast<std::size_t>(PyBytes_GET_SIZE(key))};
        return true;
    }
    PyErr_Format(PyExc_TypeError, "a key is str or bytes, not %.200s", Py_TYPE(key)->tp_name);
    return false;
}

bool Keys::read(PyObject* argument, std::size_t rules) noexcept {
    return read_each(argument, rules, "key", [this](PyObject* key) { return add(key); });
}

bool Costs::add(PyObject* cost) noexcept {
    if (!PyLong_Check(cost)) {
        PyErr_Format(PyExc_TypeError, "a cost is an int, not %.200s", Py_TYPE(cost)->tp_name);
        return false;
    }
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(cost, &overflow);
    if (overflow < 0 || (overflow == 0 && value < 1)) {
        PyErr_Format(PyExc_ValueError, "a cost is at least 1, not %S", cost);
        return false;
    }
    // What no 64 bits hold is above every limit, as is the largest number that they do.
    values_[size_++] = overflow > 0 ? std::numeric_limits<std::uint64_t>::max() : static_cast<std::uint64_t>(value);
    return true;
}

bool Costs::read(PyObject* argument, std::size_t rules) noexcept {
    return read_each(argument, rules, "cost", [this](PyObject* cost) { return add(cost); });
}

}  // namespace slidegate::bindings
