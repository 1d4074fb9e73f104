#include "bindings.hpp"
#include "slidegate/errors.hpp"

namespace py = pybind11;

PYBIND11_MODULE(_core, module) {
    module.attr("__version__") = SLIDEGATE_VERSION;
    py::register_exception<slidegate::InvalidQuota>(module, "InvalidQuota", PyExc_ValueError);
    slidegate::bindings::bind_clock(module);
    slidegate::bindings::bind_quota(module);
    slidegate::bindings::bind_segment(module);
    slidegate::bindings::bind_limiter(module);
    slidegate::bindings::bind_record(module);
    slidegate::bindings::bind_headers(module);
    slidegate::bindings::bind_shortcut(module);
    slidegate::bindings::bind_take(module);
    slidegate::bindings::bind_redis(module);
}
