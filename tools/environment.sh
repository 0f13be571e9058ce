# Sourced by tools/demo and tools/test: makes or updates .venv at the root of the project.
#
# A fitting Python is looked for; DIAGC_PYTHON names one. Nothing is done when .venv already holds what
# constraints.txt and pyproject.toml ask for.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Debian's python3 without python3-venv lacks ensurepip and cannot make an environment.
fits() {
  "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${DIAGC_PYTHON:-} python3.11 python3.12 python3.13 python3 \
    "${HOME:-}"/.pyenv/versions/3.1[123].*/bin/python3 /usr/local/bin/python3 /usr/bin/python3; do
    if fits "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  die "no Python 3.11, 3.12 or 3.13 with venv and ensurepip was found;" \
    "install one (Debian, Ubuntu: apt install python3-venv) or set DIAGC_PYTHON=/path/to/python"
}

# The stamp changes with what is installed or built and with the place: an editable install knows its
# folder.
stamp() {
  { echo "$root"
    cat "$root"/{constraints.txt,pyproject.toml,CMakeLists.txt,python/diagc/runtime/launcher.cpp}
  } | sha256sum | cut -d' ' -f1
}

pip_install() {
  "$venv/bin/python" -m pip install --disable-pip-version-check --constraint "$root/constraints.txt" "$@" ||
    die "pip failed; the message above says why. Run the command again when that is mended."
}

install_environment() {
  if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    local python
    python=$(find_python)
    say "[1/3] making .venv with $("$python" --version)"
    "$python" -m venv --clear "$venv" || die "cannot make $venv"
  fi
  say "[2/3] installing the build tools"
  pip_install scikit-build-core nanobind cmake ninja
  say "[3/3] installing diagc with torch, torch-mlir and the tools of the tests (once, some minutes)"
  (cd "$root" && pip_install --no-build-isolation --editable '.[dev]')
  # it asks for torchvision, which loads beside one build of torch only; its models need none of it
  pip_install --no-deps timm
  stamp > "$venv/diagc-stamp"
}

if [ "$(cat "$venv/diagc-stamp" 2>/dev/null)" != "$(stamp)" ]; then
  install_environment
fi
export PATH="$venv/bin:$PATH"
cd "$root"
