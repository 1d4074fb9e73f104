#include <array>
#include <cstddef>

#include <Python.h>
// What it declares needs that.
#include <structmember.h>

#include <pybind11/pybind11.h>

#include "bindings.hpp"
#include "closure.hpp"
#include "record.hpp"

namespace py = pybind11;

namespace slidegate::bindings {

namespace {

constexpr std::array kMembers{
    &Record::scope, &Record::holder,  &Record::state,    &Record::entered, &Record::method,
    &Record::path,  &Record::reached, &Record::done,     &Record::view,    &Record::told_by,
    &Record::taken, &Record::decided, &Record::injected, &Record::holds,   &Record::is_held_by_middleware};

int traverse(PyObject* self, visitproc visit, void* arg) noexcept {
    Py_VISIT(Py_TYPE(self));
    for (const auto member : kMembers) {
        Py_VISIT(reinterpret_cast<Record*>(self)->*member);
    }
    return 0;
}

int clear(PyObject* self) noexcept {
    for (const auto member : kMembers) {
        put(reinterpret_cast<Record*>(self)->*member, nullptr);
    }
    return 0;
}

void dealloc(PyObject* self) noexcept {
    PyTypeObject* type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    static_cast<void>(clear(self));
    type->tp_free(self);
    Py_DECREF(type);
}

PyMemberDef member(const char* name, std::size_t offset) noexcept {
    return {name, T_OBJECT, static_cast<Py_ssize_t>(offset), 0, nullptr};
}

PyTypeObject* made() noexcept {
    static std::array members{
        member("scope", offsetof(Record, scope)),
        member("holder", offsetof(Record, holder)),
        member("state", offsetof(Record, state)),
        member("entered", offsetof(Record, entered)),
        member("method", offsetof(Record, method)),
        member("path", offsetof(Record, path)),
        member("reached", offsetof(Record, reached)),
        member("done", offsetof(Record, done)),
        member("view", offsetof(Record, view)),
        member("told_by", offsetof(Record, told_by)),
        member("taken", offsetof(Record, taken)),
        member("decided", offsetof(Record, decided)),
        member("injected", offsetof(Record, injected)),
        member("holds", offsetof(Record, holds)),
        member("is_held_by_middleware", offsetof(Record, is_held_by_middleware)),
        PyMemberDef{},
    };
    static std::array slots{
        PyType_Slot{Py_tp_doc, const_cast<char*>("What is known of one request; see slidegate._http.state.")},
        PyType_Slot{Py_tp_members, members.data()},
        PyType_Slot{Py_tp_traverse, reinterpret_cast<void*>(&traverse)},
        PyType_Slot{Py_tp_clear, reinterpret_cast<void*>(&clear)},
        PyType_Slot{Py_tp_dealloc, reinterpret_cast<void*>(&dealloc)},
        PyType_Slot{0, nullptr},
    };
    static PyType_Spec spec{"slidegate._core.Record", sizeof(Record), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                            slots.data()};
    return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
}

}  // namespace

PyTypeObject* record_type() noexcept {
    static PyTypeObject* const type = made();
    return type;
}

Record* record_in(PyObject* scope) noexcept {
    PyObject* found = PyDict_GetItemWithError(scope, names().record);
    return found != nullptr && Py_TYPE(found) == record_type() ? reinterpret_cast<Record*>(found) : nullptr;
}

Record* new_record() noexcept {
    PyTypeObject* type = record_type();
    return reinterpret_cast<Record*>(type->tp_alloc(type, 0));
}

void bind_record(py::module_& module) {
    if (record_type() == nullptr) {
        throw py::error_already_set();
    }
    module.attr("Record") = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(record_type()));
}

}  // namespace slidegate::bindings
