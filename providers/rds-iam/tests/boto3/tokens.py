"""Reads a case as JSON from each line of stdin, and writes boto3's token or error for it."""

import datetime
import json
import sys

import boto3
import botocore.auth

clients = {}
now = None

# The only place where botocore's signer reads the clock.
botocore.auth.get_current_datetime = lambda *_, **__: now

for line in sys.stdin:
    case = json.loads(line)
    now = datetime.datetime.fromtimestamp(case["at"], datetime.timezone.utc)
    identity = (case["key"], case["secret"], case["session"], case["region"])
    try:
        if identity not in clients:
            key, secret, session, region = identity
            clients[identity] = boto3.Session(key, secret, session, region).client("rds")
        response = {"token": clients[identity].generate_db_auth_token(case["host"], case["port"], case["user"])}
    except Exception as error:
        response = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(response), flush=True)
