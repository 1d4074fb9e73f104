#include "bindings.hpp"
#include "slidegate/values/errors.hpp"

namespace py = pybind11;

namespace {

bool is_in_main_interpreter() noexcept { return PyInterpreterState_Get() == PyInterpreterState_Main(); }

constexpr const char* kElsewhere =
    "slidegate._core works in the main interpreter of a process only, and this is another one; mod_wsgi uses the main "
    "one with WSGIApplicationGroup %{GLOBAL}";

}  // namespace

PYBIND11_MODULE(_core_in_main_interpreter, module) {
    // Since Python 3.13 the entry point is always called in the main interpreter.
    if (!is_in_main_interpreter()) {
        throw py::import_error(kElsewhere);
    }
    module.attr("__version__") = SLIDEGATE_VERSION;
    py::register_exception<slidegate::InvalidQuota>(module, "InvalidQuota", PyExc_ValueError);
    slidegate::bindings::bind_clock(module);
    slidegate::bindings::bind_quota(module);
    slidegate::bindings::bind_segment(module);
    slidegate::bindings::bind_limiter(module);
    slidegate::bindings::bind_headers(module);
    slidegate::bindings::bind_redis(module);
}

// pybind11's own entry point waits for ever in another interpreter.
PyMODINIT_FUNC PyInit__core() {
    if (!is_in_main_interpreter()) {
        PyErr_SetString(PyExc_ImportError, kElsewhere);
        return nullptr;
    }
    return PyInit__core_in_main_interpreter();
}
