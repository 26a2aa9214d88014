"""Chromium in a machine's network: started, logged in to Cockpit, asked by WebDriver.

chromedriver(1) runs on the host; only the browser is in the machine's network, and the two talk
through a pipe. Cockpit serves plain HTTP on loopback (cockpit-ws(8)).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from tests.machine.nspawn import Machine
from tests.machine.people import PASSWORD
from tests.machine.site import eventually

ORIGIN = "http://127.0.0.1:9090"
DESKTOP = (1200, 900)
TELEPHONE = (390, 844)

_FRAME = "cockpit1:localhost/pf-agent"
_ENGLISH = "en-us"
_WAIT_SECONDS = 90.0
# Tries an expression at each change of the document, and answers as soon as it is true, or null
# when the time is over. Parameters: how long, and the expression's own arguments.
_WAIT = """
const [seconds, ...given] = [...arguments].slice(0, -1);
const done = arguments[arguments.length - 1];
const holds = function() { return EXPRESSION; };
let ended = false;
function end(found) {
    ended = true;
    observer.disconnect();
    clearTimeout(late);
    done(found);
}
function look() {
    let found = null;
    try {
        found = holds(...given);
    } catch { /* what it asks about is not there yet */ }
    if (found && !ended)
        end(found);
}
const observer = new MutationObserver(look);
const late = setTimeout(() => end(null), seconds * 1000);
observer.observe(document,
    { subtree: true, childList: true, attributes: true, characterData: true });
look();
"""
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--lang=en-US",
    "--remote-debugging-pipe",
)
# What Cockpit itself logs: the login page asks once without a password, and Debian 13 lacks a font.
_COCKPITS_OWN = ("/cockpit/login", "/assets/fonts/RedHat", "favicon")


class Chromium:
    """One browser. Use it as a context manager: leaving ends it, and its profile is gone."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._folder = tempfile.TemporaryDirectory(prefix="chromium.")
        self._session: tuple[str, bool, str, str] | None = None
        self.driver: Any = None

    def __enter__(self) -> Chromium:
        enter = f"nsenter --target={self._machine.leader} --net"
        options = webdriver.ChromeOptions()
        options.binary_location = self._program("browser", f"{enter} chromium")
        for option in _OPTIONS:
            options.add_argument(option)
        options.accept_insecure_certs = True
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # It ends with the tests, however these end, and the browser with it.
        driver = self._program("driver", "setpriv --pdeathsig=KILL chromedriver")
        self.driver = webdriver.Chrome(service=Service(driver), options=options)
        self.driver.set_script_timeout(120)
        self.resize(DESKTOP)
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()
        self._folder.cleanup()

    def _program(self, name: str, command: str) -> str:
        """The path of a program that is this command, with the arguments that it is given."""
        path = Path(self._folder.name) / name
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        path.chmod(0o755)
        return str(path)

    # Cockpit

    def be(self, user: str, *, administrative: bool) -> None:
        """Go on with the session of this person, or begin one."""
        if self._session != (user, administrative, ORIGIN, _ENGLISH):
            self.login(user, administrative=administrative)

    def login(
        self, user: str, *, administrative: bool, origin: str = ORIGIN, language: str = _ENGLISH
    ) -> None:
        """Begin a session of a person on the login page, another person's ends; the page of the
        agent is then the one that Cockpit opens."""
        self.driver.get(f"{origin}/cockpit/login")  # any page of this origin: for its storage
        self.driver.delete_all_cookies()
        self.driver.add_cookie({"name": "CockpitLang", "value": language})
        # Cockpit's own way to remember whether somebody wants to be root (superuser.js).
        wanted = "any" if administrative else "none"
        self.driver.execute_script(
            "localStorage.clear(); localStorage.setItem('cockpit.lang', arguments[2]);"
            "localStorage.setItem(`superuser:${arguments[0]}`, arguments[1])",
            *(user, wanted, language),
        )
        self.driver.get(f"{origin}/pf-agent")
        fields = {"login-user-input": user, "login-password-input": PASSWORD}
        eventually(lambda: self._is_shown("login-user-input"), "Cockpit's login page")
        for name, text in fields.items():
            self.driver.find_element(By.ID, name).send_keys(text)
        self.driver.find_element(By.ID, "login-button").click()
        eventually(self._is_let_in, f"{user} is logged in")
        self._session = (user, administrative, origin, language)

    def give_up_root(self) -> None:
        """Give back the administrative access, as Cockpit's own menu offers it."""
        assert self._session is not None
        self.press_in_shell("Administrative access")
        self.press_in_shell("Limit access")
        user, _, origin, language = self._session
        self._session = (user, False, origin, language)

    def lose_session(self) -> None:
        """Have all that belongs to the session on the server killed."""
        assert self._session is not None
        self._machine.run(["pkill", "--signal=KILL", "--uid", self._session[0]])
        self._session = None

    def open(self, place: str = "/pf-agent", origin: str = ORIGIN) -> None:
        """Go to a page of Cockpit within the session; with the agent's the frame is entered."""
        self.driver.switch_to.default_content()
        self.driver.get(origin + place)
        if place.startswith("/pf-agent"):
            eventually(self._enter_frame, "the frame of the page")

    def shell(self, script: str, *arguments: object) -> Any:
        """What a script returns in Cockpit's shell, around the frame."""
        self.driver.switch_to.default_content()
        return self.driver.execute_script(script, *arguments)

    def wait_shell(self, script: str) -> None:
        """Wait until a script in Cockpit's shell returns something that is true."""
        eventually(lambda: bool(self.shell(script)), script)

    def press_in_shell(self, text: str) -> None:
        """Press the button of Cockpit's shell that has this text, as soon as it can be."""

        def done() -> bool:
            try:
                self.driver.switch_to.default_content()
                self.driver.find_element(By.XPATH, f"//button[normalize-space()='{text}']").click()
            except WebDriverException:
                return False
            return True

        eventually(done, f"a click on Cockpit's {text}", 60.0)

    def _is_shown(self, name: str) -> bool:
        return any(found.is_displayed() for found in self.driver.find_elements(By.ID, name))

    def _is_let_in(self) -> bool:
        try:
            return bool(self.shell("return document.body && !document.getElementById('login')"))
        except WebDriverException:  # between two documents
            return False

    def _enter_frame(self) -> bool:
        try:
            self.driver.switch_to.default_content()
            self.driver.switch_to.frame(_FRAME)
        except WebDriverException:
            return False
        return True

    # In the frame

    def script(self, script: str, *arguments: object) -> Any:
        """What a script returns in the page's frame, which is entered anew: Cockpit loads it again
        where rights change. Raises WebDriverException."""
        self.driver.switch_to.default_content()
        self.driver.switch_to.frame(_FRAME)
        return self.driver.execute_script(script, *arguments)

    def asynchronous(self, script: str, *arguments: object) -> Any:
        """The same of a script that gives its answer to its last argument, a function."""
        self.driver.switch_to.default_content()
        self.driver.switch_to.frame(_FRAME)
        return self.driver.execute_async_script(script, *arguments)

    def wait(self, expression: str, *arguments: object, timeout: float = _WAIT_SECONDS) -> Any:
        """Wait until an expression is true in the page's frame; return what it is then."""
        script = _WAIT.replace("EXPRESSION", expression)
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                if found := self.asynchronous(script, left, *arguments):
                    return found
            except WebDriverException:  # between two documents
                time.sleep(0.05)
        shown = self.script("return document.body && document.body.innerText.slice(0, 3000)")
        raise AssertionError(
            f"not within {timeout} s: {expression}; {arguments}; the page shows:\n{shown}"
        )

    def click(self, selector: str) -> None:
        """Click on an element of the page, as soon as it is there and can be clicked on."""

        def done() -> bool:
            try:
                self.driver.find_element(By.CSS_SELECTOR, selector).click()
            except WebDriverException:  # drawn anew meanwhile
                return False
            return True

        self.wait("document.querySelector(arguments[0])", selector)
        eventually(lambda: self._enter_frame() and done(), f"a click on {selector}", 60.0)

    def choose(self, selector: str, value: str) -> None:
        """Choose from a list of the page."""
        self.click(f'{selector} option[value="{value}"]')

    def type(self, *keys: str) -> None:
        """Press keys, one after the other, on whatever has the focus."""
        ActionChains(self.driver).send_keys(*keys).perform()

    # The window

    def resize(self, size: tuple[int, int]) -> None:
        """Give the window's inside this width and height, in CSS pixels."""
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        """Have the system prefer a colour scheme: "light" or "dark"."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def screenshot(self) -> bytes:
        """The window as a PNG."""
        picture: bytes = self.driver.get_screenshot_as_png()
        return picture

    def complaints(self) -> list[str]:
        """What was logged as an error since the last call, but for Cockpit's own."""
        messages = [m["message"] for m in self.driver.get_log("browser") if m["level"] == "SEVERE"]
        return [m for m in messages if not any(own in m for own in _COCKPITS_OWN)]
