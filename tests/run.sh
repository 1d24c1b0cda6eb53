#!/usr/bin/env bash
# Builds and runs every test, and sets up what they need.
#
#   tests/run.sh          everything, as continuous integration runs it
#   tests/run.sh quick    formatting and the Rust tests alone: no Python, no Spark, no lints, no documentation
#
# Needs a Rust toolchain and python3. Python packages go to .venv; Java and a software Vulkan device are
# installed if there are none and this is root on Debian or Ubuntu. What cannot be set up is skipped, and said
# at the end.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

mode=${1:-all}
if [[ $mode != all && $mode != quick ]]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 64
fi

passed=() failed=() skipped=()

# One set for all that is built and run, so that dependencies are compiled once.
features=(--features "atomflow/cuda,atomflow-gpu/vulkan,atomflow-gpu/text")

# step NAME COMMAND…: runs the command and remembers how it ended.
step() {
    local name=$1 start=$SECONDS
    shift
    printf '\n=== %s\n' "$name"
    if "$@"; then
        passed+=("$name ($((SECONDS - start)) s)")
    else
        failed+=("$name ($((SECONDS - start)) s)")
        return 1
    fi
}

# skip WHAT WHY
skip() {
    skipped+=("$1 because $2")
    printf 'skipped: %s because %s\n' "$1" "$2"
}

# tested COMMAND…: a step whose output holds counts of tests.
tested() {
    "$@" 2>&1 | tee -a "$log/tests"
    return "${PIPESTATUS[0]}"
}

# count WORD: all tests that passed (failed), from the summaries of nextest and cargo test.
count() {
    sed -n 's/\x1b\[[0-9;]*m//g; /tests\{0,1\} run:/p; /^test result:/p' "$log/tests" 2>/dev/null |
        grep -oE "[0-9]+ $1" | awk '{ n += $1 } END { print n + 0 }'
}

# install PACKAGE…: from the distribution, where this machine lets us.
install() {
    command -v apt-get >/dev/null && [[ $(id -u) == 0 ]] || return 1
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q "$@" || { apt-get update -q && apt-get install -y -q "$@"; }
}

make_venv() {
    rm -rf .venv
    python3 -m venv .venv || { rm -rf .venv && install python3-venv && python3 -m venv .venv; }
}

# .venv with exactly the pinned packages; the stamp says that a former call has put them there.
python_environment() {
    local stamp
    stamp=$(python3 -c 'import hashlib, sys
print(sys.version, hashlib.sha256(open("tests/python/requirements.txt", "rb").read()).hexdigest())') || return 1
    if [[ -x .venv/bin/python && $(cat .venv/stamp 2>/dev/null) == "$stamp" ]]; then
        return 0
    fi
    make_venv || return 1
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
        --requirement tests/python/requirements.txt || return 1
    echo "$stamp" >.venv/stamp
}

java_works() {
    java -version >/dev/null 2>&1
}

java_environment() {
    java_works || { install default-jre-headless && java_works; }
}

# The compiler and assembler of CUDA, which need no card: the text of every kernel goes through them.
cuda_environment() {
    local packages=(
        nvidia-cuda-nvrtc==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
        nvidia-cuda-crt==13.0.88 nvidia-cuda-nvcc==13.0.88
    )
    if [[ $(cat .venv/cuda/stamp 2>/dev/null) != "${packages[*]}" ]]; then
        rm -rf .venv/cuda
        # In one call: a second one into the same directory would empty what they share.
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
            --target .venv/cuda "${packages[@]}" || return 1
        echo "${packages[*]}" >.venv/cuda/stamp
    fi
}

vulkan_works() {
    compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' >/dev/null && ldconfig -p | grep -q 'libvulkan\.so\.1'
}

vulkan_environment() {
    vulkan_works || { install mesa-vulkan-drivers libvulkan1 && vulkan_works; }
}

formatting() {
    # Not cargo fmt: it does not see modules that macros declare.
    git ls-files -z '*.rs' | xargs -0 rustfmt --check --edition 2024
}

documentation() {
    RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings" cargo doc --release --no-deps --workspace
}

rust_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --config-file tests/nextest.toml --release --workspace --no-fail-fast "${features[@]}"
    else
        cargo test --release --workspace --all-targets --no-fail-fast "${features[@]}"
    fi
}

# Where cuda_environment puts it. From the start: build scripts look at it, and would run again if it changed.
export CUDA_PATH=$PWD/.venv/cuda/nvidia/cu13

log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
# The servers of the tests are on this machine.
export NO_PROXY=${NO_PROXY:+$NO_PROXY,}127.0.0.1,localhost
export no_proxy=$NO_PROXY

if [[ $mode == all ]]; then
    # Mostly waiting for the network: beside the compiler.
    (
        python_environment; echo $? >"$log/python"
        java_environment; echo $? >"$log/java"
        vulkan_environment; echo $? >"$log/vulkan"
        cuda_environment; echo $? >"$log/cuda"
    ) >"$log/setup" 2>&1 </dev/null &
    setup=$!
fi

if rustfmt --version >/dev/null 2>&1; then
    step "formatting" formatting
else
    skip "formatting" "this toolchain has no rustfmt"
fi

# All in the profile of the program: build scripts and macros are compiled once for all steps.
if [[ $mode == quick ]]; then
    skip "lints, documentation, Python, Spark, software devices" "quick was asked for"
elif cargo clippy --version >/dev/null 2>&1; then
    # Without cards, as most people build; what is built next has them.
    step "lints" cargo clippy --release --workspace --all-targets -- -D warnings
else
    skip "lints" "this toolchain has no clippy"
fi
step "build" cargo build --release --workspace --all-targets "${features[@]}"
built=$?

if [[ $mode == all ]]; then
    wait "$setup"
    if [[ $(cat "$log/python") == 0 ]]; then
        export ATOMFLOW_TEST_PYTHON=$PWD/.venv/bin/python
        [[ $(cat "$log/java") == 0 ]] || skip "Spark" "there is no Java, and it cannot be installed here"
    else
        tail -n 20 "$log/setup"
        skip "DuckDB, Polars, deltalake, Spark and moto" "the Python packages could not be installed (see above)"
    fi
    if [[ $(cat "$log/vulkan") == 0 ]]; then
        export ATOMFLOW_TEST_VULKAN=1
    else
        skip "kernels of cards on a software device" "there is no Vulkan device, and none can be installed here"
    fi
    if [[ $(cat "$log/cuda") == 0 ]]; then
        export ATOMFLOW_TEST_NVRTC=1
        export LD_LIBRARY_PATH=$CUDA_PATH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    else
        skip "the CUDA text of kernels" "NVRTC could not be installed (see above)"
    fi
fi

if [[ $built == 0 ]]; then
    step "tests" tested rust_tests
    step "examples in the documentation" tested cargo test --release --workspace --doc "${features[@]}"
    if [[ $mode == all ]]; then
        step "documentation" documentation
        step "the check of cards, without one" infra/gpu/check.sh --dry-run --out "$log/gpu" \
            --atomflow "${CARGO_TARGET_DIR:-target}/release/atomflow"
    fi
else
    skip "tests" "the build failed"
fi

printf '\n'
for name in "${passed[@]}"; do echo "passed: $name"; done
for name in "${skipped[@]}"; do echo "skipped: $name"; done
for name in "${failed[@]}"; do echo "FAILED: $name"; done
printf '\n%s passed, %s failed\n' "$(count passed)" "$(count failed)"
[[ ${#failed[@]} == 0 ]]
