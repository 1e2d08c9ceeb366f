"""What became of a call, as the result of a `tools/call`: content for models, `structuredContent` for programs."""

from typing import Any

import msgspec

from gateway.json_values import is_array, is_object
from gateway.mcp.cutting import cut_text, shrink
from gateway.mcp.listing import Shape
from gateway.mcp.telling import ended_text, refused_text
from toolswarm.errors import ToolswarmError
from toolswarm.messages import ErrorInfo, ToolResult
from toolswarm.states import State

CALL_URI = "toolswarm://calls/"
"""Before the id of a call: the resource that holds its result; with `/value` behind it, its value alone and whole."""
_DETAILS_BYTES = 16_384


def result_of(result: ToolResult, shape: Shape, limit_bytes: int) -> dict[str, Any]:
    """The result of a call that has ended."""
    if result.status is not State.SUCCEEDED:
        error = result.error or ErrorInfo(code=f"call_{result.status}", message=f"the call ended as {result.status}")
        return _error(ended_text(result.status, error, result.id), error, meta_of(result))
    if result.meta.whole is not None:
        return _too_large(result, limit_bytes)
    value = result.value
    if shape is Shape.CONTENT and is_object(value):
        return _content(result, value, limit_bytes)
    structured = value if shape is Shape.OBJECT and is_object(value) else {"result": value}
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    size_bytes = len(text.encode(errors="replace"))
    if size_bytes > limit_bytes:
        content = _cut_content(text, size_bytes, limit_bytes, result.id)
        structured = shrink(structured, limit_bytes)
    return _complete(content, result) | {"structuredContent": structured}


def _too_large(result: ToolResult, limit_bytes: int) -> dict[str, Any]:
    """Of a value of which there is only the beginning: an error, since what is left does not fit its schema."""
    size_bytes = result.meta.whole.size_bytes if result.meta.whole is not None else 0
    message = f"the call succeeded, but its answer of {size_bytes} bytes is too large to be given here"
    error = ErrorInfo(code="answer_too_large", message=message)
    beginning = result.value.get("beginning", "") if is_object(result.value) else ""
    text = (
        f"answer_too_large: {message}. Do not repeat it for the answer alone: ask for less, or read it at "
        f"{CALL_URI}{result.id}/value while it is kept. It begins:\n{cut_text(str(beginning), limit_bytes)}"
    )
    return _error(text, error, meta_of(result))


def still_running(result: ToolResult) -> dict[str, Any]:
    """The result of a call whose gateway shuts down while the client waits for it."""
    message = f"this gateway is shutting down, and call {result.id} goes on"
    error = ErrorInfo(code="still_running", message=message, retryable=True)
    text = (
        f"still_running: {message}. Send the same call again: you are given its result when it must not run twice, "
        f"and it is run anew when it may. Its result will also be at {CALL_URI}{result.id}."
    )
    return _error(text, error, meta_of(result))


def refused(error: ToolswarmError) -> dict[str, Any]:
    """The result of a call that was not accepted."""
    info = error.info()
    return _error(refused_text(info), info, {})


def meta_of(result: ToolResult) -> dict[str, Any]:
    """How the call was run."""
    return {"toolswarm/call": {"id": result.id, "status": result.status.value, **msgspec.to_builtins(result.meta)}}


def _error(text: str, error: ErrorInfo, meta: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"code": error.code, "message": error.message, "retryable": error.retryable}
    if error.details:
        told["details"] = shrink(msgspec.to_builtins(error.details, enc_hook=str), _DETAILS_BYTES)
    return {
        "resultType": "complete",
        "content": [{"type": "text", "text": text}],
        "isError": True,
        # Not in `structuredContent`: there some clients hold it against the schema of the value, and raise.
        "_meta": {**meta, "toolswarm/error": told},
    }


def _complete(content: list[dict[str, Any]], result: ToolResult) -> dict[str, Any]:
    return {"resultType": "complete", "content": content, "isError": False, "_meta": meta_of(result)}


def _content(result: ToolResult, value: dict[str, Any], limit_bytes: int) -> dict[str, Any]:
    blocks = value.get("content")
    content = [block for block in blocks if is_object(block)] if is_array(blocks) else []
    size_bytes = len(msgspec.json.encode(content))
    if size_bytes > limit_bytes:
        # A picture cannot be cut: only texts are kept, up to the limit.
        text = "\n".join(str(block.get("text", "")) for block in content if block.get("type") == "text")
        content = _cut_content(text, size_bytes, limit_bytes, result.id)
    answer = _complete(content, result)
    structured = value.get("structured")
    return answer | ({"structuredContent": shrink(structured, limit_bytes)} if is_object(structured) else {})


def _cut_content(text: str, size_bytes: int, limit_bytes: int, call_id: str) -> list[dict[str, Any]]:
    note = (
        f"[The answer has {size_bytes} bytes; this is its beginning. The whole is at {CALL_URI}{call_id}/value. "
        "Better ask for less: a part, a page, a narrower search.]"
    )
    link = {
        "type": "resource_link",
        "uri": f"{CALL_URI}{call_id}/value",
        "name": f"value of call {call_id}",
        "mimeType": "application/json",
        "size": size_bytes,
    }
    return [{"type": "text", "text": f"{cut_text(text, limit_bytes)}\n\n{note}"}, link]
