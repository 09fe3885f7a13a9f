"""The baseline of the way in: Flask reading a POST and answering JSON, on the same gunicorn."""

from flask import Flask, Response, jsonify, request

app = Flask(__name__)


@app.post("/webhooks/lab")
def lab() -> Response:
    """Read the body and answer."""
    return jsonify(status="accepted", id=str(len(request.get_data())))


@app.get("/readyz")
def readyz() -> Response:
    """Say that it serves."""
    return jsonify(status="ready")
