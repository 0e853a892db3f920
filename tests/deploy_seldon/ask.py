"""Send gRPC requests from the environment of Seldon's wrapper: ``ask.py PORT < requests > answers``.

Each input line is a SeldonMessage, or "metadata"; each output line is the answer, or the status of the call.
"""

import json
import sys

import grpc
from google.protobuf import empty_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from seldon_core.proto import prediction_pb2, prediction_pb2_grpc

with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}") as channel:
    model = prediction_pb2_grpc.ModelStub(channel)
    for line in sys.stdin:
        request = json.loads(line)
        call, message = (
            (model.Metadata, empty_pb2.Empty())
            if request == "metadata"
            else (model.Predict, ParseDict(request, prediction_pb2.SeldonMessage()))
        )
        try:
            answer = MessageToDict(call(message, timeout=30, wait_for_ready=True))
        except grpc.RpcError as error:
            answer = {"error": str(error.code())}
        sys.stdout.write(json.dumps(answer) + "\n")
