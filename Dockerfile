# One image for all of the Procfile's processes: web as it is, the others by their command.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1
WORKDIR /relay
COPY requirements.txt .
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements.txt
COPY . .
# Nothing in here is written to: what Relay keeps is in PostgreSQL.
RUN useradd --system --no-create-home relay
USER relay
EXPOSE 8000
CMD ["gunicorn", "app:app"]
