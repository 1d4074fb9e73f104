# KEEP=1 leaves the demo server running; STORAGE=redis has it count in a Redis that it starts.
PYTHON_BIN := .venv/bin/python
WERROR := $(or $(SLIDEGATE_WERROR),OFF)
CLANG := $(firstword $(foreach name,clang++ $(addprefix clang++-,22 21 20 19 18 17 16 15 14),$(shell command -v $(name))))
FUZZ_S := 300
# How many tests run at once.
JOBS := 2
PYTEST := -m pytest -n $(JOBS) --dist worksteal
# gcc's ThreadSanitizer wants its address space where it expects it; where that may not be fixed, it may be lucky.
FIXED_ADDRESSES := $(shell setarch -R true 2>/dev/null && echo setarch -R)

.DEFAULT_GOAL := help
.PHONY: help setup tools test-setup demo test check cpp-test tsan asan fuzz model python-test oldest stubtest lint format \
    bench bench-http clean

help:
	@echo "make demo | test | check | bench | bench-http | lint | format | clean"
	@echo "make test is of python-test, cpp-test, stubtest and lint; make check of oldest, model, tsan and asan; then make fuzz"

# Set up once is enough for what runs side by side.
set_up := $(if $(IS_SET_UP),:,.ci/setup)

setup:
	@$(set_up)

tools:
	@$(set_up) tools

test-setup:
	@$(set_up) tests

demo: setup
	@$(PYTHON_BIN) -m slidegate.demo $(if $(KEEP),--keep) $(if $(STORAGE),--storage $(STORAGE))

# Two targets at a time; each one's output comes when it is done, and all of them run whatever becomes of the others.
side_by_side = @echo "==> side by side, each with its output at its end: $(1)"; \
    $(MAKE) --no-print-directory --jobs=2 --output-sync=target --keep-going IS_SET_UP=yes $(1)

test: test-setup
	$(call side_by_side,python-test cpp-test stubtest lint)

# What takes longest and seldom finds what the tests do not.
check: test-setup
	$(call side_by_side,oldest model tsan asan)

cpp-test: test-setup
	ctest --test-dir build/release --output-on-failure -j $(JOBS)

tsan asan: sanitizer = $(if $(filter tsan,$@),thread,address)
tsan: run = $(FIXED_ADDRESSES)
tsan asan: test-setup
	cmake -S . -B build/$@ -G Ninja -DCMAKE_BUILD_TYPE=Debug -DSLIDEGATE_TESTS=ON \
	    -DSLIDEGATE_SANITIZE=$(sanitizer) -DSLIDEGATE_WERROR=$(WERROR) >build/logs/$@.log
	$(run) cmake --build build/$@
	$(run) ctest --test-dir build/$@ --output-on-failure -j $(JOBS)

# What is found stays in build/fuzz/corpus; FUZZ_S seconds.
fuzz: setup
	@[ -n "$(CLANG)" ] || { echo "make fuzz needs clang (Debian package: clang)" >&2; exit 1; }
	cmake -S . -B build/fuzz -G Ninja -DCMAKE_BUILD_TYPE=Debug -DSLIDEGATE_FUZZ=ON \
	    -DCMAKE_CXX_COMPILER=$(CLANG) >build/logs/fuzz.log
	cmake --build build/fuzz
	mkdir -p build/fuzz/corpus
	build/fuzz/fuzz_segment -timeout=10 -max_len=4096 -max_total_time=$(FUZZ_S) -artifact_prefix=build/fuzz/ \
	    build/fuzz/corpus

model: test-setup
	cpp/models/run.sh

python-test: test-setup
	$(PYTHON_BIN) $(PYTEST)

oldest:
	@.ci/setup oldest
	[ ! -d .venv-oldest ] || .venv-oldest/bin/python $(PYTEST)

stubtest: tools
	MYPYPATH=python $(PYTHON_BIN) -m mypy.stubtest slidegate._core --allowlist .ci/stubtest-allowlist

cpp_files = $(shell find cpp tests/cpp benchmarks -name '*.[ch]pp')

lint: tools
	$(PYTHON_BIN) -m ruff check
	$(PYTHON_BIN) -m ruff format --check
	$(PYTHON_BIN) -m mypy
	.venv/bin/clang-format --dry-run --Werror $(cpp_files)

format: tools
	$(PYTHON_BIN) -m ruff check --fix-only
	$(PYTHON_BIN) -m ruff format
	.venv/bin/clang-format -i $(cpp_files)

bench: setup
	$(PYTHON_BIN) benchmarks/run.py

bench-http: setup
	$(PYTHON_BIN) benchmarks/run.py --http

clean:
	rm -rf build dist .venv .venv-oldest .hypothesis .mypy_cache .pytest_cache .ruff_cache
