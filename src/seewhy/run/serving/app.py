"""The web application: a page, and an API that takes one case per request."""

from __future__ import annotations

import asyncio
import io
import logging
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import IO, Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from seewhy import __version__
from seewhy.errors import SeewhyError, describe_system_error
from seewhy.figures.report.page import format_upload_page
from seewhy.run.loaded.model import LoadedModel
from seewhy.run.serving.answers import Problem, ServedAnswer, answer_as_json, answer_as_zip, describe_request
from seewhy.run.serving.examination import Examination, examine
from seewhy.run.serving.guard import Guard, RequestError, format_problem
from seewhy.run.serving.options import ServingOptions
from seewhy.run.serving.served_run import ServedRun
from seewhy.run.serving.uploads import MOST_SLICES, TEXTS, SentCase, store_case
from seewhy.run.serving.worker import BUSY, CaseWorker

__all__ = ["build_app"]

LOGGER = logging.getLogger(__name__)
BAD_REQUEST, UNREADABLE, WRONG_TYPE, BROKEN = 400, 422, 415, 500
FORM = "multipart/form-data"
MOST_FIELD_BYTES = 4096
STEP = 1 << 20
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in (
        (BAD_REQUEST, "a request without a form"), (403, "a page of another site"), (413, "too large"),
        (WRONG_TYPE, "another type of file"), (421, "another name than that of this server"),
        (UNREADABLE, "a case that cannot be read, or does not fit the run"),
        (BUSY, "too many cases wait, or it took too long"),
    )
}  # fmt: skip


def build_app(model: LoadedModel, run: ServedRun, worker: CaseWorker, options: ServingOptions, folder: Path) -> FastAPI:
    """Build the application.

    Args:
        model: the run.
        run: its facts.
        worker: runs predictions; its `run` is called by somebody else.
        options: limits.
        folder: of temporary files; each request has a folder of its own in it, which is removed with its answer.
    """
    app = FastAPI(
        title=f"seewhy: {run.name}", version=__version__, description=" ".join(run.warnings),
        docs_url=None, redoc_url=None,  # these pages load scripts from elsewhere
    )  # fmt: skip
    page, policy = format_upload_page(run.to_record(), most_bytes=options.upload_bytes)
    answering = _Answering(model, run, worker, options, folder)
    request = {"openapi_extra": describe_request(run.rules)}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": policy})

    @app.get("/run")
    async def describe() -> JSONResponse:
        """What is served: inputs, classes, methods with their verdicts, warnings."""
        return JSONResponse(run.to_record())

    @app.get("/health")
    async def report_health() -> JSONResponse:
        """Whether the server answers, and how many cases it has taken."""
        return JSONResponse({"status": "ok", "cases": worker.places_taken})

    @app.post("/predict", responses={200: {"model": ServedAnswer}, **PROBLEMS}, **request)  # type: ignore[arg-type]
    async def predict(request: Request) -> Response:
        """Predict and explain one case."""
        return Response(await answering.answer(request, answering.make_json), media_type="application/json")

    @app.post("/predict.zip", responses={200: {"content": {"application/zip": {}}}, **PROBLEMS}, **request)  # type: ignore[arg-type]
    async def predict_files(request: Request) -> Response:
        """Predict one case, and get the files that `predict.py` writes, unchanged."""
        packed = await answering.answer(request, answering.make_zip)
        headers = {"content-disposition": 'attachment; filename="predictions.zip"'}
        return StreamingResponse(_read_file(packed), media_type="application/zip", headers=headers)

    _handle_errors(app, folder)
    app.add_middleware(
        Guard, hosts=options.allow_hosts, most_bytes=options.upload_bytes, describe=partial(_describe_error, folder)
    )
    return app


class _Answering:
    """Takes requests: stores their files, waits for the worker, and removes the files."""

    def __init__(
        self, model: LoadedModel, run: ServedRun, worker: CaseWorker, options: ServingOptions, folder: Path
    ) -> None:
        self.model, self.run, self.worker, self.options, self.folder = model, run, worker, options, folder

    async def answer(self, request: Request, make: Callable[[SentCase, Path], Any]) -> Any:
        """The result of `make` for the case of a request."""
        if not request.headers.get("content-type", "").lower().startswith(FORM):
            raise RequestError(f"expected a form with files ({FORM}), e.g. curl -F {self.run.rules.inputs[0]}=@FILE",
                          status=WRONG_TYPE)  # fmt: skip
        place = self.worker.reserve()
        try:
            form = await self._in_time(self._read_form(request), "the upload")
            folder = Path(tempfile.mkdtemp(dir=self.folder, prefix="case-"))
            try:
                case = await run_in_threadpool(self._store, form, folder)
                future = place.submit(partial(make, case, folder))
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            finally:
                await form.close()
            future.add_done_callback(partial(_remove, folder))
            return await self._in_time(asyncio.wrap_future(future), "the prediction")
        finally:
            place.leave()

    def make_json(self, case: SentCase, folder: Path) -> bytes:
        """Examine a case, and format the answer."""
        began = time.monotonic()
        examination = self._examine(case, folder)
        return answer_as_json(self.run, examination, seconds=time.monotonic() - began)

    def make_zip(self, case: SentCase, folder: Path) -> IO[bytes]:
        """Examine a case, and pack its files."""
        return answer_as_zip(self._examine(case, folder))

    def _examine(self, case: SentCase, folder: Path) -> Examination:
        with redirect_stdout(io.StringIO()):  # reports and progress bars of the commands
            return examine(self.model, self.run, case, folder)

    def _store(self, form: FormData, folder: Path) -> SentCase:
        return store_case(form, folder, self.run.rules, most_unpacked=self.options.unpacked_bytes)

    async def _read_form(self, request: Request) -> FormData:
        most = MOST_SLICES + 1 if self.run.rules.several else len(self.run.rules.inputs) + 1
        fields = len(TEXTS) + len(self.run.rules.inputs) + 1
        return await request.form(max_files=most, max_fields=fields, max_part_size=MOST_FIELD_BYTES)

    async def _in_time(self, waiting: Awaitable[Any], what: str) -> Any:
        try:
            return await asyncio.wait_for(waiting, self.options.timeout)
        except TimeoutError as error:
            raise RequestError(
                f"{what} took longer than {self.options.timeout:g} s; try again, send a smaller case, or start the "
                "server with a larger --timeout",
                status=BUSY,
            ) from error


def _remove(folder: Path, _: Future[Any]) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _read_file(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(STEP):
            yield piece


def _handle_errors(app: FastAPI, folder: Path) -> None:
    """Answer every error with one line."""

    def say(text: str, status: int) -> JSONResponse:
        headers = {"retry-after": "30"} if status == BUSY else {}
        return JSONResponse({"error": text}, status, headers)

    @app.exception_handler(SeewhyError)
    async def answer_problem(request: Request, error: SeewhyError) -> JSONResponse:
        return say(
            format_problem(error, folder=folder), error.status if isinstance(error, RequestError) else UNREADABLE
        )

    @app.exception_handler(HTTPException)
    async def answer_http(request: Request, error: HTTPException) -> JSONResponse:
        text = {
            404: f"there is no page {request.url.path[:100]}; the page is /, the API is described in /openapi.json",
            405: f"{request.method} is not possible for {request.url.path[:100]}; see /openapi.json",
        }.get(error.status_code, f"the request cannot be read ({error.detail}); send a form with files ({FORM})")
        return say(text, error.status_code)

    @app.exception_handler(ClientDisconnect)
    async def answer_nobody(request: Request, error: ClientDisconnect) -> JSONResponse:
        return say("the upload was not completed; send it again", BAD_REQUEST)


def _describe_error(folder: Path, error: Exception) -> tuple[str, int]:
    """One line and a status for an error that nobody expected; the answer must not show the code."""
    text = describe_system_error(error, any_code=True)
    if text is not None:
        return format_problem(RuntimeError(text), folder=folder), BUSY
    LOGGER.error("a case was not answered: %s: %s", type(error).__name__, error, exc_info=error)
    return f"this case led to an error of seewhy ({type(error).__name__}); please report it", BROKEN
