"""Checks the signatures of webhooks with the reference library of the specification.

Reads one request a line from standard input, as JSON: the headers `webhook-…` and the body as text. Ends with an error where one of them is not
what the secret in the first argument has signed, or where a request that was changed would pass.
"""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def main() -> None:
    webhook = Webhook(sys.argv[1])
    count = 0
    for line in sys.stdin:
        request = json.loads(line)
        body, headers = request["body"], request["headers"]
        webhook.verify(body, headers)
        for changed_body, changed_headers in (
            (body + " ", headers),
            (body, {**headers, "webhook-id": headers["webhook-id"] + "0"}),
            (body, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}),
        ):
            try:
                webhook.verify(changed_body, changed_headers)
            except WebhookVerificationError:
                continue
            sys.exit(f"a request that was changed passes: {changed_headers} {changed_body}")
        count += 1
    print(count)


main()
