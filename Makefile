# A thin front: CMakeLists.txt and CMakePresets.json hold the build.
PREFIX ?= /usr/local
PRESET ?= release
BUILD = build/$(PRESET)
SOURCES = $(wildcard src/*/*.[ch] src/*/*/*.[ch] include/*/*.h tests/*/*.[ch] bench/*.[ch] bench/*/*.[ch] fuzz/*.[ch])

.PHONY: all configure test asan tsan demo bench install uninstall clean format lint deps

all: configure
	@cmake --build $(BUILD)

configure:
	@cmake --preset $(PRESET) -DCMAKE_INSTALL_PREFIX="$(PREFIX)" >/dev/null || { echo "'make deps' installs what is missing" >&2; exit 1; }

test:
	@tools/install-deps.sh build test
	@$(MAKE) --no-print-directory all
	@tools/run-tests.sh $(BUILD)

asan tsan:
	@$(MAKE) --no-print-directory test PRESET=$@

demo:
	@tools/install-deps.sh build demo
	@$(MAKE) --no-print-directory all
	@BACKBONE="$(BACKBONE)" DATA="$(DATA)" sh demo/run.sh

bench: all
	@bench/run.sh $(BUILD)

install: all
	@cmake --install $(BUILD)

uninstall:
	@tools/uninstall.sh $(BUILD)/install_manifest.txt

clean:
	@rm -rf build

format:
	@clang-format -i $(SOURCES)

lint: configure
	@printf '%s\n' $(filter src/%.c,$(SOURCES)) | xargs -P "$$(nproc)" -n 1 clang-tidy --quiet -p $(BUILD)

deps:
	@tools/install-deps.sh
