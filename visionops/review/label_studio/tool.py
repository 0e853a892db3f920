"""`LabelStudio`: an `AnnotationTool` with a project for each use case.

A task's data has the ids that match its annotations to items: ``item``, ``round`` and ``sha256``. Images are uploaded,
so that a server elsewhere can show them; a task refers to its upload by the hash, never by a user's file name.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from visionops.errors import LabelError
from visionops.review.annotation.tool import Annotation, Ticket
from visionops.review.checks import MOST_NAME, digest_of
from visionops.review.errors import Conflict, Unavailable
from visionops.review.items import ReviewItem, UseCase
from visionops.review.label_studio.api import LabelStudioApi
from visionops.review.label_studio.config import IMAGE, covers, labelling_config
from visionops.review.label_studio.pictures import for_browsers
from visionops.review.label_studio.results import check_form, label_from, prediction_of, rejection_from

__all__ = ["LabelStudio", "project_title"]

_LONGEST_TITLE = 50
_ITEM, _ROUND, _SHA256, _SIZE = "item", "round", "sha256", "size"


class LabelStudio:
    """Label Studio as an annotation tool.

    Args:
        url: URL of the server.
        token: A personal access token, or a legacy token.

    Raises:
        Invalid: The URL is malformed, or the token is missing.
    """

    def __init__(self, url: str, token: str) -> None:
        self.api = LabelStudioApi(url, token)

    @property
    def title(self) -> str:
        """See `AnnotationTool`."""
        return f"Label Studio {self.api.url}"

    def check(self) -> str:
        """Return the account name of the token.

        Raises:
            Unavailable: The server does not answer, or refuses the token.
        """
        found = self.api.get("/api/current-user/whoami")
        return str(found.get("email") or found.get("username") or found.get("id"))

    def present(self, use_case: UseCase, tickets: Sequence[Ticket]) -> set[Ticket]:
        """See `AnnotationTool`."""
        project = self._find(use_case)
        if project is None:
            return set()
        found = {ticket for task in self._tasks(project, "task_only") if (ticket := _ticket(task)) is not None}
        return found & set(tickets)

    def push(self, use_case: UseCase, items: Sequence[ReviewItem], read: Callable[[str], bytes]) -> None:
        """See `AnnotationTool`."""
        check_form(use_case)
        config = labelling_config(use_case)
        project = self._find(use_case) or self._create(use_case, config)
        if not covers(str(project.get("label_config") or ""), config):
            self.api.patch(f"/api/projects/{project['id']}/", {"label_config": config})
        tasks = [self._task(project, use_case, item, read(item.image.sha256)) for item in items]
        self.api.post(f"/api/projects/{project['id']}/import", tasks)
        versions = Counter(each["model_version"] for task in tasks for each in task["predictions"])
        # Label Studio shows only the predictions of one model version in a project.
        if versions and (newest := versions.most_common(1)[0][0]) != project.get("model_version"):
            self.api.patch(f"/api/projects/{project['id']}/", {"model_version": newest})

    def annotations(self, use_case: UseCase) -> Iterator[Annotation]:
        """See `AnnotationTool`."""
        project = self._find(use_case)
        if project is None:
            return
        people: dict[int, str] | None = None
        for task in self._tasks(project, "all"):
            ticket, drawn = _ticket(task), _counting(task)
            if ticket is None or drawn is None:
                continue
            if people is None:
                people = {int(one["id"]): str(one.get("email") or one.get("username")) for one in self._people()}
            yield _annotation(use_case, ticket, task, drawn, people)

    def _find(self, use_case: UseCase) -> dict[str, Any] | None:
        title = project_title(use_case.name)
        found = [one for one in self.api.pages("/api/projects/", "results", "count") if one.get("title") == title]
        if len(found) > 1:
            ids = " and ".join(str(one["id"]) for one in found[:2])
            raise Conflict(f"{self.title}: projects {ids} have the title {title!r}; rename one of them")
        # The list endpoint may leave out the configuration.
        return dict(self.api.get(f"/api/projects/{found[0]['id']}/")) if found else None

    def _create(self, use_case: UseCase, config: str) -> dict[str, Any]:
        body = {
            "title": project_title(use_case.name),
            "description": f"Items of the VisionOps review of {use_case.name}. Pull with: visionops annotate pull",
            "label_config": config,
            "show_collab_predictions": True,
            "enable_empty_annotation": True,  # an image without objects is a valid answer
            "show_skip_button": True,
        }
        return dict(self.api.post("/api/projects/", body))

    def _task(self, project: Mapping[str, Any], use_case: UseCase, item: ReviewItem, data: bytes) -> dict[str, Any]:
        shown, suffix = for_browsers(data)
        file = (f"{item.image.sha256}{suffix}", shown, f"image/{'jpeg' if suffix == '.jpg' else suffix[1:]}")
        path = f"/api/projects/{project['id']}/import"
        uploaded = self.api.post(path, files={"file": file}, params={"commit_to_project": "false"})
        try:
            (upload,) = uploaded["file_upload_ids"]
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(
                f"{self.title}: did not keep image {item.image.sha256}; see its log, try again"
            ) from error
        place = self.api.get(f"/api/import/file-upload/{upload}")["file"]
        prediction = prediction_of(item, use_case)
        return {
            "data": {
                IMAGE: f"/data/{place}",
                "name": item.first.name or item.first.reference or item.id,
                _ITEM: item.id,
                _ROUND: item.status.round,
                _SHA256: item.image.sha256,
                _SIZE: [item.image.width, item.image.height],
            },
            "meta": {_ITEM: item.id, _SHA256: item.image.sha256},
            "predictions": [prediction] if prediction else [],
        }

    def _tasks(self, project: Mapping[str, Any], fields: str) -> Iterator[dict[str, Any]]:
        return self.api.pages("/api/tasks/", "tasks", "total", project=int(project["id"]), fields=fields)

    def _people(self) -> list[dict[str, Any]]:
        found = self.api.get("/api/users/")
        return list(found["results"] if isinstance(found, dict) else found)


def project_title(use_case: str) -> str:
    """Return the title of a use case's project. Label Studio accepts at most 50 characters."""
    title = f"VisionOps {use_case}"
    return title if len(title) <= _LONGEST_TITLE else f"{title[:41]} {digest_of('title', use_case)[:8]}"


def _ticket(task: Mapping[str, Any]) -> Ticket | None:
    """Return the ticket of a task; None for a task that somebody else added to the project."""
    data = task.get("data") or {}
    item, round_ = data.get(_ITEM), data.get(_ROUND)
    return Ticket(item, round_) if isinstance(item, str) and isinstance(round_, int) else None


def _counting(task: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the annotation that counts: the one marked as ground truth, or else the last that was not skipped."""
    drawn = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
    marked = [one for one in drawn if one.get("ground_truth")] or drawn
    return max(marked, key=lambda one: (str(one.get("updated_at")), int(one["id"])), default=None)


def _annotation(
    use_case: UseCase, ticket: Ticket, task: Mapping[str, Any], drawn: Mapping[str, Any], people: Mapping[int, str]
) -> Annotation:
    reference = f"Label Studio task {task['id']}, annotation {drawn['id']} of {drawn.get('updated_at')}"
    author = drawn.get("completed_by")
    if isinstance(author, Mapping):
        name = str(author.get("email") or author.get("id"))
    else:
        name = people.get(int(author or 0), f"Label Studio user {author}")
    found = Annotation(ticket, reference, name[:MOST_NAME])
    results = drawn.get("result") or []
    try:
        width, height = (int(side) for side in task["data"][_SIZE])
        if reason := rejection_from(results):
            return dataclasses.replace(found, rejection=reason)
        return dataclasses.replace(found, label=label_from(results, use_case, width, height))
    except LabelError as error:
        return dataclasses.replace(found, problem=str(error))
    except (KeyError, TypeError, ValueError):
        return dataclasses.replace(found, problem="the task's data was changed; push the item again in a new round")
