// Names of segments that no other test uses, and that are gone afterwards.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

#include "slidegate/segment/segment.hpp"

namespace slidegate::testing {

enum class Kind { shared, file };

/// A place for one named segment, of either kind.
class Scratch {
  public:
    explicit Scratch(Kind kind) : kind_(kind) {
        static std::atomic<int> number = 0;
        name_ = "test." + std::to_string(getpid()) + "." + std::to_string(number++);
        const char* const directory = std::getenv("TMPDIR");
        path_ = kind == Kind::shared ? "/dev/shm/slidegate." + name_
                                     : std::string(directory != nullptr ? directory : P_tmpdir) + "/slidegate." + name_;
        ::unlink(path_.c_str());
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { ::unlink(path_.c_str()); }

    [[nodiscard]] Segment open(const Opening& opening = {}) const {
        return kind_ == Kind::shared ? Segment::shared(name_, opening) : Segment::file(path_, opening);
    }
    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] const std::string& name() const { return name_; }

    [[nodiscard]] std::string bytes() const {
        std::ifstream file(path_, std::ios::binary);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    void write(const std::string& bytes) const { std::ofstream(path_, std::ios::binary) << bytes; }

  private:
    Kind kind_;
    std::string name_;
    std::string path_;
};

}  // namespace slidegate::testing
