# A thin front: CMakeLists.txt and CMakePresets.json hold the build. Each target configures and builds only what the
# packages that it asks for carry. OPTIONS: more options of the configuration, such as -DINLAY_WERROR=ON.
PREFIX ?= /usr/local
PRESET ?= release
OPTIONS ?=
TESTS = OFF
BUILD = build/$(PRESET)
SOURCES = $(wildcard src/*/*.[ch] src/*/*/*.[ch] include/*/*.h tests/*/*.[ch] bench/*.[ch] bench/*/*.[ch] fuzz/*.[ch])

.PHONY: all command configure test asan tsan torture fuzz demo bench install uninstall clean format tidy deps

all: configure
	@cmake --build $(BUILD)

command: configure
	@cmake --build $(BUILD) --target inlay

configure:
	@cmake --preset $(PRESET) -DCMAKE_INSTALL_PREFIX="$(PREFIX)" -DINLAY_TESTS=$(TESTS) $(OPTIONS) >/dev/null || \
	    { echo "'make deps' installs what is missing" >&2; exit 1; }

test:
	@tools/install-deps.sh build test
	@$(MAKE) --no-print-directory all TESTS=ON
	@tools/run-tests.sh $(BUILD)

# The suite under the address and undefined-behaviour sanitizers; what has threads under the thread sanitizer.
asan:
	@$(MAKE) --no-print-directory test PRESET=$@

THREADED = test_pool test_loader test_train test_cache test_api test_shared_backbone
tsan:
	@tools/install-deps.sh build test
	@$(MAKE) --no-print-directory configure PRESET=$@ TESTS=ON
	@cmake --build build/$@ --target $(THREADED)
	@tools/run-tests.sh build/$@ -R "^($$(echo $(THREADED) | tr ' ' '|'))\$$"

# Kills, failing calls and full disks, each followed by --resume; SECONDS_OF_IT=60 is the short form, SEED repeats a
# draw.
SECONDS_OF_IT ?= 3600
torture:
	@tools/install-deps.sh build test torture
	@$(MAKE) --no-print-directory all TESTS=ON
	@tests/torture/torture.sh $(BUILD) $(SECONDS_OF_IT) $(SEED)

# Every parser of outside data under libFuzzer and the sanitizers.
FUZZ_SECONDS ?= 60
fuzz:
	@tools/install-deps.sh build fuzz
	@$(MAKE) --no-print-directory all PRESET=fuzz
	@tools/run-fuzz.sh build/fuzz $(FUZZ_SECONDS) $(TARGETS)

demo:
	@tools/install-deps.sh build demo
	@$(MAKE) --no-print-directory command
	@BACKBONE="$(BACKBONE)" DATA="$(DATA)" sh demo/run.sh

bench: configure
	@cmake --build $(BUILD) --target inlay benchmarks
	@bench/run.sh $(BUILD)

install: all
	@cmake --install $(BUILD)

uninstall:
	@tools/uninstall.sh $(BUILD)/install_manifest.txt

clean:
	@rm -rf build

format:
	@clang-format -i $(SOURCES)

# clang-tidy over src/. Nothing is built: it needs to know how, with the portable kernels and with assertions, which
# tell it what always holds.
tidy:
	@tools/install-deps.sh build tidy
	@$(MAKE) --no-print-directory configure PRESET=$@
	@tools/run-tidy.sh build/$@

deps:
	@tools/install-deps.sh
