# shellcheck shell=bash
# Sees to a Chromium and its driver, in which the tests of the report's page run. Sourced by
# test.sh after python.sh. Where none can be installed that is said, and costs no other test.

have_browser() {
  { command -v chromium || command -v chromium-browser; } >/dev/null &&
    command -v chromedriver >/dev/null
}

# install_browser COMMAND…: Debian's packages, by apt-get after the command that makes it root.
# The download alone is cut off early, so that no package is left half unpacked.
install_browser() {
  local apt=(apt-get -q -y -o Acquire::Retries=0 -o Acquire::http::Timeout=10
    -o Acquire::https::Timeout=10 -o DPkg::Lock::Timeout=30)
  local packages=(--no-install-recommends chromium chromium-driver)
  "$@" timeout 60 "${apt[@]}" update # may fail: the lists that are there may do
  "$@" timeout 180 "${apt[@]}" install --download-only "${packages[@]}" &&
    "$@" timeout 300 "${apt[@]}" install --no-download "${packages[@]}"
}

# ensure_browser: installs Chromium where it is missing and may be installed. Never fails, asks
# nothing, and without a network gives up soon.
ensure_browser() {
  local reason='' log=.venv/browser.log
  local root=(env DEBIAN_FRONTEND=noninteractive)
  ! have_browser || return 0
  [[ $(id -u) == 0 ]] || root=(sudo -n "${root[@]}")
  if ! command -v apt-get >/dev/null; then
    reason='there is no apt-get to install it'
  elif ! "${root[@]}" true >/dev/null 2>&1 </dev/null; then
    reason='to install it takes root, or sudo without a password'
  else
    say 'Installing Chromium for the tests of the page (once)…'
    install_browser "${root[@]}" >"$log" 2>&1 </dev/null || true
    have_browser || reason="apt-get did not install it, see $log"
  fi
  [[ -z $reason ]] ||
    say "The tests of the page will be skipped, for there is no chromium with chromedriver: $reason."
}
