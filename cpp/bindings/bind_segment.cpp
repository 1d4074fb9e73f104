#include <memory>
#include <string>

#include <pybind11/stl.h>

#include "bindings.hpp"
#include "slidegate/segment/segment.hpp"
#include "slidegate/segment/segment_list.hpp"
#include "slidegate/values/errors.hpp"

namespace py = pybind11;

namespace slidegate::bindings {

namespace {

OnDamage on_damage_named(const std::string& name) {
    if (name == "error") {
        return OnDamage::error;
    }
    if (name == "recreate") {
        return OnDamage::recreate;
    }
    throw py::value_error("on_damage is 'error' or 'recreate', not '" + name + "'");
}

Opening opening_of(std::size_t size, const std::string& on_damage, bool may_create, std::uint64_t owner_pid,
                   std::uint32_t mode, std::optional<std::uint32_t> group) {
    Opening opening;
    opening.size = size;
    opening.on_damage = on_damage_named(on_damage);
    opening.may_create = may_create;
    opening.access.mode = mode;
    opening.access.group = group;
    opening.owner = ProcessId::of(owner_pid);
    if (owner_pid != 0 && !opening.owner) {
        throw SegmentError("the owner of a segment is a process that runs: there is no " + std::to_string(owner_pid));
    }
    return opening;
}

// Opening waits for those who create or mend it at the same moment, perhaps for seconds: not while holding the GIL.
template <Segment (*kOpen)(const std::string&, const Opening&)>
std::shared_ptr<Segment> opened(const std::string& where, std::size_t size, const std::string& on_damage,
                                bool may_create, std::uint64_t owner_pid, std::uint32_t mode,
                                std::optional<std::uint32_t> group) {
    const Opening opening = opening_of(size, on_damage, may_create, owner_pid, mode, group);
    const py::gil_scoped_release unlocked;
    return std::make_shared<Segment>(kOpen(where, opening));
}

}  // namespace

void bind_segment(py::module_& module) {
    const auto& error = py::register_exception<SegmentError>(module, "SegmentError", PyExc_OSError);
    py::register_exception<SegmentMissing>(module, "SegmentMissing", error);

    const auto options = [](auto& type, const char* name, auto function, const char* where) {
        type.def_static(name, function, py::arg(where), py::kw_only(), py::arg("size") = 0,
                        py::arg("on_damage") = "error", py::arg("may_create") = true, py::arg("owner_pid") = 0,
                        py::arg("mode") = Access{}.mode, py::arg("group") = py::none());
    };
    py::class_<Segment, std::shared_ptr<Segment>> segment(module, "Segment", py::is_final());
    options(segment, "shared", &opened<&Segment::shared>, "name");
    options(segment, "file", &opened<&Segment::file>, "path");
    segment
        .def_static(
            "inherited",
            [](std::size_t size) { return std::make_shared<Segment>(Layout::for_size(size), AfterFork::shared); },
            py::arg("size"))
        .def("unlink", &Segment::unlink, py::pos_only())
        .def(
            "admits", [](const Segment& self, const std::string& space) { return self.statistics().space(space) != 0; },
            py::arg("space"), py::pos_only())
        .def_property_readonly("name", &Segment::name, py::pos_only())
        .def_property_readonly("size", [](const Segment& self) { return self.layout().size(); })
        .def_property_readonly("is_new", &Segment::is_new, py::pos_only());
    segment.attr("default_size") = kDefaultNamedSize;
    segment.attr("shared_directory") = Place::shared_directory();
    segment.attr("shared_prefix") = Place::shared_prefix();

    forbid_new(segment);

    py::class_<SegmentInfo> info(module, "SegmentInfo", py::is_final());
    info.def_readonly("name", &SegmentInfo::name)
        .def_readonly("damage", &SegmentInfo::damage)
        .def_readonly("size", &SegmentInfo::size)
        .def_readonly("born_ns", &SegmentInfo::born)
        .def_property_readonly("owner_pid", [](const SegmentInfo& self) { return self.owner.pid; })
        .def_property_readonly("is_leftover",
                               [](const SegmentInfo& self) { return self.owner && !self.owner.is_alive(); });

    forbid_new(info);

    module.def("shared_segments", &shared_segments);
    module.def("remove_leftovers", &remove_leftovers);
    module.def(
        "process_start", [](std::uint64_t pid) { return ProcessId::of(pid).start; }, py::arg("pid"), py::pos_only());
    module.def("launch_secret", [] {
        const std::span<const char> secret = launch_secret();
        return py::bytes(secret.data(), secret.size());
    });
}

}  // namespace slidegate::bindings
