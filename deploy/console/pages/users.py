"""Page Users, for admins: who may sign in, their roles, and the history of changes."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui
from starlette.requests import Request

from deploy.console.context import Console, Viewer
from deploy.console.pages.frame import add_page, attempt, in_thread
from visionops.review.errors import Invalid
from visionops.review.passwords import FEWEST, hash_password
from visionops.review.users import Account, UserChange, UserRole, check_user_name

__all__ = ["register"]

_MOST_CHANGES = 50
_ROLES = [role.value for role in UserRole]
_MEANINGS = {
    "viewer": "looks at everything, and predicts",
    "reviewer": "also decides images",
    "engineer": "also trains, exports, promotes and rolls back",
    "admin": "also reopens decisions and manages users",
}


def register(console: Console) -> None:
    """Add the page ``/users``."""

    async def build(viewer: Viewer, _request: Request) -> None:
        page = _Users(console, viewer)
        with ui.element("section").classes("vo-card").style("width: 100%"):
            page.list_box = ui.column().style("width: 100%")
        with ui.element("section").classes("vo-card").style("width: 100%"):
            page.show_form()
        with ui.element("section").classes("vo-card").style("width: 100%"):
            page.changes_box = ui.column().style("width: 100%")
        await page.fill()

    add_page(console, "/users", "Users", build)


class _Users:
    list_box: ui.column
    changes_box: ui.column

    def __init__(self, console: Console, viewer: Viewer) -> None:
        self._console = console
        self._access = console.access
        self._viewer = viewer

    async def fill(self) -> None:
        """Show the current users and changes."""
        accounts, changes = await in_thread(self._read)
        self.list_box.clear()
        with self.list_box:
            _heading(f"{len(accounts)} users" if len(accounts) != 1 else "1 user")
            if not accounts:
                ui.label(
                    "Until there is a user, only this machine is served. Add the first one on the command line, as an "
                    "admin: visionops user add NAME --role admin"
                ).classes("vo-muted")
                return
            with ui.element("div").style("overflow-x: auto; width: 100%"), ui.element("table").classes("vo-table"):
                _head("Name", "Role", "Signs in by", "Sessions", "Last seen", "")
                with ui.element("tbody"):
                    for account in accounts:
                        self._row(account)
        self.changes_box.clear()
        with self.changes_box:
            _heading("Changes")
            with ui.element("div").style("overflow-x: auto; width: 100%"), ui.element("table").classes("vo-table"):
                _head("When (UTC)", "Who", "What", "User", "")
                with ui.element("tbody"):
                    for change in changes:
                        _change_row(change)

    def show_form(self) -> None:
        """Show the form that adds a user."""
        _heading("Add a user")
        with ui.row().classes("items-start q-mt-sm"):
            name = ui.input("Name").props('outlined dense autocomplete="off" maxlength=80')
            role = ui.select(_ROLES, value="viewer", label="Role").props("outlined dense").style("min-width: 140px")
            first, second = _passwords()

            async def add() -> None:
                def work() -> None:
                    kept = check_user_name(name.value or "")
                    hashed = hash_password(_same(first.value, second.value), kept)
                    users = self._access.users
                    users.add(kept, UserRole(role.value), self._viewer.name, self._access.now(), hashed=hashed)

                if await self._do(work):
                    for field in (name, first, second):
                        field.value = ""

            ui.button("Add", icon="person_add", on_click=add).props("no-caps unelevated")
        for one, meaning in _MEANINGS.items():
            ui.label(f"{one}: {meaning}").classes("vo-muted")

    def _read(self) -> tuple[list[Account], list[UserChange]]:
        users = self._access.users
        return users.accounts(self._access.now(), self._access.rules), users.changes(_MOST_CHANGES)

    async def _do(self, work: Callable[[], object]) -> bool:
        def done() -> bool:
            work()
            return True

        found = await attempt(self._viewer, UserRole.ADMIN, done) or False
        if found or self._viewer.session is None:
            await self.fill()
        return found

    def _row(self, account: Account) -> None:
        user, users, by, now = account.user, self._access.users, self._viewer.name, self._access.now
        with ui.element("tr"):
            with ui.element("td"):
                ui.label(user.name).style("overflow-wrap: anywhere; font-weight: 600")
                if user.is_disabled:
                    ui.label("disabled").classes("vo-bad")
            with ui.element("td"):

                async def change_role(role: str) -> None:
                    if not await self._do(lambda: users.set_role(user.name, UserRole(role), by, now())):
                        await self.fill()

                select = ui.select(_ROLES, value=user.role.value, on_change=lambda event: change_role(event.value))
                select.props("outlined dense options-dense")
                select.props["aria-label"] = f"Role of {user.name}"
            _cell("identity provider" if user.subject else "password")
            _cell(str(account.sessions))
            _cell("" if account.last_seen is None else f"{account.last_seen:%Y-%m-%d %H:%M}")
            with ui.element("td"), ui.row().classes("no-wrap q-gutter-xs"):
                if user.subject is None:
                    _button("New password", lambda: self._ask_password(user.name))
                _button("End sessions", lambda: self._do(lambda: users.end_sessions(user.name, by, now())))
                _button(
                    "Enable" if user.is_disabled else "Disable",
                    lambda: self._do(
                        lambda: users.set_disabled(user.name, by, now(), is_disabled=not user.is_disabled)
                    ),
                )

    def _ask_password(self, name: str) -> None:
        with ui.dialog(value=True) as dialog, ui.card().classes("vo-card"):
            ui.label(f"New password of {name}").classes("vo-heading")
            ui.label("A new password ends all sessions of this user.").classes("vo-muted")
            first, second = _passwords()

            async def keep() -> None:
                def work() -> None:
                    hashed = hash_password(_same(first.value, second.value), name)
                    self._access.users.set_password(name, hashed, self._viewer.name, self._access.now())

                if await self._do(work):
                    dialog.close()

            with ui.row():
                ui.button("Set password", on_click=keep).props("no-caps unelevated")
                ui.button("Cancel", on_click=dialog.close).props("no-caps flat")


def _passwords() -> tuple[ui.input, ui.input]:
    shown = 'outlined dense autocomplete="new-password" maxlength=200'
    first = ui.input(f"Password, {FEWEST} characters or more", password=True).props(shown).style("min-width: 260px")
    return first, ui.input("Again", password=True).props(shown)


def _same(first: str | None, second: str | None) -> str:
    if (first or "") != (second or ""):
        raise Invalid("password: the two entries differ")
    return first or ""


def _button(text: str, do: Callable[[], object]) -> None:
    ui.button(text, on_click=do).props("no-caps flat dense")


def _heading(text: str) -> None:
    with ui.element("h2").classes("vo-heading"):
        ui.label(text)


def _head(*texts: str) -> None:
    with ui.element("thead"), ui.element("tr"):
        for text in texts:
            with ui.element("th" if text else "td").props('scope="col"' if text else ""):
                ui.label(text)


def _cell(text: str) -> None:
    with ui.element("td"):
        ui.label(text).style("overflow-wrap: anywhere")


def _change_row(change: UserChange) -> None:
    details = ", ".join(f"{key} {value}" for key, value in change.details.items())
    with ui.element("tr"):
        for text in (f"{change.at:%Y-%m-%d %H:%M:%S}", change.actor, change.action, change.name, details):
            _cell(text)
