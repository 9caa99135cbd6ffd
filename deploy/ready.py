"""The container's health check: exit 0 when the server in it takes work, 1 when not."""

import os
import ssl
import sys
import urllib.request

scheme = "https" if os.environ.get("NEARFIELD_TLS_CERT") else "http"
port = os.environ.get("NEARFIELD_PORT", "8080")
# Past any proxy that is set for fetching models; and a certificate is for the server's name, not for this address.
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
)
try:
    opener.open(f"{scheme}://127.0.0.1:{port}/ready", timeout=4)
except OSError as error:
    sys.exit(f"not ready: {error}")
