"""What ``make runtimes`` runs in each runtime that ships: a real program, in a job with the whole sandbox."""

from __future__ import annotations

from dataclasses import dataclass

MARKER = "joblet-marker"
"""A file of this name is in the host's /usr and /etc; no job with a runtime may find it."""

_PYTHON = """\
import ctypes, json, multiprocessing, sqlite3, ssl, sys, tempfile, zlib

def square(number):
    return number * number

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    rows = sqlite3.connect(":memory:").execute("select 6 * 7").fetchall()
    assert rows == [(42,)] and ssl.create_default_context().get_ca_certs()
    with tempfile.NamedTemporaryFile() as file:
        file.write(zlib.compress(json.dumps(sys.version_info[:2]).encode()))
    print("done")
"""
_TRAIN = """\
import matplotlib.pyplot as plot, numpy, pandas
from scipy.optimize import minimize
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

flowers = load_iris(as_frame=True)
model = RandomForestClassifier(random_state=1, n_jobs=2).fit(flowers.data, flowers.target)
assert model.score(flowers.data, flowers.target) > 0.95
assert abs(minimize(lambda x: (x[0] - 3) ** 2, numpy.zeros(1)).x[0] - 3) < 1e-3
pandas.DataFrame(flowers.data).plot.scatter(0, 1)
plot.savefig("/volumes/results/plot.png")
with open("/volumes/results/plot.png", "rb") as file:
    assert file.read(4) == b"\\x89PNG"
print("done")
"""
_JAVA = """\
import java.nio.file.*;
import java.util.stream.*;

public class Program {
    public static void main(String[] words) throws Exception {
        long sum = IntStream.rangeClosed(1, 1000).parallel().asLongStream().sum();
        if (sum != 500500 || javax.net.ssl.SSLContext.getDefault() == null) System.exit(1);
        Files.writeString(Path.of("/volumes/results/java.txt"), "" + sum);
        System.out.println("done");
    }
}
"""
_GO = """\
package main

import (
    "crypto/sha256"
    "encoding/json"
    "fmt"
    "os"
)

func main() {
    text, err := json.Marshal(map[string]int{"a": 1})
    if err != nil || len(sha256.Sum256(text)) != 32 {
        os.Exit(1)
    }
    fmt.Println("done")
}
"""
_NODE = """\
const crypto = require('crypto'), fs = require('fs'), http = require('http'), zlib = require('zlib');
const server = http.createServer((_, answer) => answer.end('over loopback'));
server.listen(0, '127.0.0.1', () => http.get(server.address(), (answer) => {
  answer.on('data', (data) => {
    const packed = zlib.gzipSync(data);
    fs.writeFileSync('/volumes/results/node.gz', packed);
    if (zlib.gunzipSync(packed).toString() === 'over loopback' && crypto.randomUUID()) console.log('done');
    server.close();
  });
}));
"""


@dataclass(frozen=True, slots=True)
class Program:
    """A program for the runtimes whose name begins with ``runtime``."""

    runtime: str
    file: str
    text: str
    command: str
    """Shell text, in the directory with the file; prints ``done`` at its end."""


PROGRAMS = (
    Program("python-3.11-ml", "train.py", _TRAIN, "MPLCONFIGDIR=/tmp python train.py"),
    Program("python-", "program.py", _PYTHON, "python program.py"),
    Program("openjdk-", "Program.java", _JAVA, "javac Program.java && java Program"),
    Program("go-", "hello.go", _GO, "go build -o hello hello.go && ./hello | grep done && go run hello.go"),
    Program("node-", "program.js", _NODE, "node program.js"),
)


def program_of(runtime: str) -> Program:
    """Return what is run in the runtime of that name."""
    return next(program for program in PROGRAMS if runtime.startswith(program.runtime))


def script_of(program: Program) -> str:
    """Return the shell text of the job: nothing of the host is there, everything of the job's is."""
    return "\n".join(
        (
            "set -e",
            'test "$(id -u)" -ge 1000',
            'test "$TOKEN" = told',
            "! touch /usr/written /etc/written /written 2> /dev/null",
            f'test -z "$(find / -name {MARKER} 2> /dev/null)"',
            "touch /tmp/written /var/tmp/written /work/written /volumes/results/written",
            "export HOME=/work",
            program.command,
        )
    )
