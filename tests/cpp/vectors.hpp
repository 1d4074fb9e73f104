// Reads tests/vectors/*.json: what every implementation of a strategy has to answer.
#pragma once

#include <cctype>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace slidegate::testing {

/// As much of JSON as the vectors use: objects, arrays, strings without escapes, integers and booleans.
struct Json {
    std::map<std::string, Json> members;
    std::vector<Json> items;
    std::string text;
    std::int64_t number = 0;  ///< of a boolean, 0 or 1

    [[nodiscard]] const Json& operator[](const std::string& name) const { return members.at(name); }
    [[nodiscard]] const Json& operator[](std::size_t index) const { return items.at(index); }
};

class JsonReader {
  public:
    [[nodiscard]] static Json read_file(const std::string& path) {
        std::ifstream file(path);
        if (!file) {
            throw std::runtime_error("cannot open " + path);
        }
        JsonReader reader({std::istreambuf_iterator<char>(file), {}});
        Json json = reader.value();
        reader.skip_space();
        if (reader.at_ != reader.source_.size()) {
            throw std::runtime_error(path + " goes on after its end");
        }
        return json;
    }

  private:
    explicit JsonReader(std::string source) : source_(std::move(source)) {}

    void skip_space() {
        while (at_ < source_.size() && std::isspace(static_cast<unsigned char>(source_[at_])) != 0) {
            ++at_;
        }
    }
    bool accept(const std::string& token) {
        skip_space();
        if (source_.compare(at_, token.size(), token) != 0) {
            return false;
        }
        at_ += token.size();
        return true;
    }
    void expect(const std::string& token) {
        if (!accept(token)) {
            throw std::runtime_error("expected " + token + " at byte " + std::to_string(at_));
        }
    }
    std::string string() {
        const std::size_t end = source_.find('"', at_);
        const std::string text = source_.substr(at_, end - at_);
        at_ = end;
        expect("\"");
        return text;
    }
    Json value() {
        Json json;
        if (accept("{")) {
            for (bool is_first = true; !accept("}"); is_first = false) {
                expect(is_first ? "" : ",");
                expect("\"");
                const std::string name = string();
                expect(":");
                json.members[name] = value();
            }
        } else if (accept("[")) {
            for (bool is_first = true; !accept("]"); is_first = false) {
                expect(is_first ? "" : ",");
                json.items.push_back(value());
            }
        } else if (accept("\"")) {
            json.text = string();
        } else if (accept("true")) {
            json.number = 1;
        } else if (!accept("false")) {
            std::size_t used = 0;
            json.number = std::stoll(source_.substr(at_, 24), &used);
            at_ += used;
        }
        return json;
    }

    std::string source_;
    std::size_t at_ = 0;
};

}  // namespace slidegate::testing
