"""Answers each line of JSON on stdin with the token that boto3 makes of it, or with its error."""

import datetime
import json
import sys

import boto3
import botocore.auth

clients = {}
now = None

# The one place where botocore's signer reads the clock.
botocore.auth.get_current_datetime = lambda *_, **__: now

for line in sys.stdin:
    case = json.loads(line)
    now = datetime.datetime.fromtimestamp(case["at"], datetime.timezone.utc)
    identity = (case["key"], case["secret"], case["session"], case["region"])
    try:
        if identity not in clients:
            key, secret, session, region = identity
            clients[identity] = boto3.Session(key, secret, session, region).client("rds")
        answer = {"token": clients[identity].generate_db_auth_token(case["host"], case["port"], case["user"])}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
