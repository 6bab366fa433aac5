"""What a request costs that is answered with nothing: raw ASGI, and BentoML's own stack."""

import bentoml

ANSWER = b'{"probability":0.5}'


async def asgi(scope, receive, send):
    """Reads the body and answers the same bytes."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    length = str(len(ANSWER)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


@bentoml.service
class Nothing:
    @bentoml.api
    async def predict(self, rows: list[dict]) -> dict:
        return {"probability": 0.5}
