// A real ZooKeeper, a real bridge and a proxy between the browser and the bridge whose connections can be cut.

import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer as createHttp } from "node:http";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const BOUND_MS = 60_000;
const POLL_MS = 100;
const ATTEMPT_MS = 5_000;
export const TOKEN = "token-of-the-browser-tests";
export const NARROW_TOKEN = "token-that-sees-less";

export async function until(text, check, bound = BOUND_MS) {
  const end = Date.now() + bound;
  let last;
  while (Date.now() < end) {
    try {
      const found = await check();
      if (found) return found;
    } catch (error) {
      last = error;
    }
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
  throw new Error(`not within ${bound} ms: ${text}${last ? `: ${last}` : ""}`);
}

function freePort() {
  return new Promise((done, fail) => {
    const server = createServer();
    server.on("error", fail);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

/** A client that creates, writes and deletes znodes. */
export class ZooKeeper {
  #socket;
  #waiting = [];
  #rest = Buffer.alloc(0);
  #xid = 1;
  #ping;

  static async connect(port) {
    const client = new ZooKeeper();
    await new Promise((done, fail) => {
      client.#socket = connect(port, "127.0.0.1", done);
      client.#socket.once("error", fail);
    });
    client.#socket.on("data", (data) => client.#take(data));
    client.#socket.on("close", () => client.#waiting.splice(0).forEach((one) => one.fail(new Error("closed"))));
    const hello = Buffer.alloc(45);
    hello.writeInt32BE(30_000, 12);
    hello.writeInt32BE(16, 24);
    // A server that still starts may take the connection and never answer.
    const bound = setTimeout(() => client.close(), ATTEMPT_MS);
    await client.#send(hello).finally(() => clearTimeout(bound));
    client.#ping = setInterval(() => client.#request(-2, 11, []).catch(() => {}), 8_000);
    return client;
  }

  create(path, data = "", ephemeral = false) {
    return this.#request(this.#xid++, 1, [text(path), text(data), int(1), int(31), text("world"), text("anyone"), int(ephemeral ? 1 : 0)]);
  }

  set(path, data) {
    return this.#request(this.#xid++, 5, [text(path), text(data), int(-1)]);
  }

  delete(path) {
    return this.#request(this.#xid++, 2, [text(path), int(-1)]);
  }

  close() {
    clearInterval(this.#ping);
    this.#socket.destroy();
  }

  async #request(xid, kind, parts) {
    const reply = await this.#send(Buffer.concat([int(xid), int(kind), ...parts]));
    const code = reply.readInt32BE(12);
    if (code !== 0) throw new Error(`ZooKeeper answers ${code}`);
  }

  #send(body) {
    return new Promise((done, fail) => {
      this.#waiting.push({ done, fail });
      this.#socket.write(Buffer.concat([int(body.length), body]));
    });
  }

  #take(data) {
    this.#rest = Buffer.concat([this.#rest, data]);
    while (this.#rest.length >= 4) {
      const length = this.#rest.readInt32BE(0);
      if (this.#rest.length < 4 + length) return;
      const body = this.#rest.subarray(4, 4 + length);
      this.#rest = this.#rest.subarray(4 + length);
      this.#waiting.shift()?.done(body);
    }
  }
}

function int(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function text(value) {
  const bytes = Buffer.from(value);
  return Buffer.concat([int(bytes.length), bytes]);
}

export class Stage {
  #children = [];
  #sockets = new Set();
  #servers = [];
  #clients = [];

  static async open() {
    const stage = new Stage();
    try {
      await stage.#start();
      return stage;
    } catch (error) {
      await stage.close();
      throw new Error(`${error.message}\n${stage.log ?? ""}`);
    }
  }

  async #start() {
    const binary = process.env.ZKBRIDGE_BINARY;
    const cache = process.env.ZKBRIDGE_CACHE;
    if (!binary || !cache) throw new Error("give ZKBRIDGE_BINARY and ZKBRIDGE_CACHE; 'make test-web' does");
    this.folder = await mkdtemp(join(tmpdir(), "zkbridge-page-"));
    const servers = (await readdir(cache)).filter((name) => /^zookeeper-3\.9\./.test(name)).sort();
    const version = servers.at(-1);
    if (!version) throw new Error(`no ZooKeeper 3.9 in ${cache}: run fetch-servers`);
    this.zookeeperPort = await freePort();
    this.bridgePort = await freePort();
    await writeFile(join(this.folder, "zoo.cfg"), [
      "tickTime=2000", `dataDir=${this.folder}/zookeeper`, `clientPort=${this.zookeeperPort}`,
      "clientPortAddress=127.0.0.1", "admin.enableServer=false", "",
    ].join("\n"));
    this.#run("java", ["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", join(cache, version, "*"),
      "org.apache.zookeeper.server.ZooKeeperServerMain", join(this.folder, "zoo.cfg")]);
    this.zookeeper = await until("ZooKeeper accepts a session", () => ZooKeeper.connect(this.zookeeperPort));
    this.#clients.push(this.zookeeper);
    await this.#receiver();
    await writeFile(join(this.folder, "zkbridge.toml"), `
data_dir = "${this.folder}/data"
[http]
listen = "127.0.0.1:${this.bridgePort}"
token = "${TOKEN}"
[[http.tokens]]
name = "narrow"
token = "${NARROW_TOKEN}"
paths = ["/config"]
values = false
[[source]]
name = "main"
connect = "127.0.0.1:${this.zookeeperPort}"
[[sink]]
name = "audit"
type = "webhook"
url = "http://127.0.0.1:${this.receiverPort}/"
reject_after = 1
allow_private_addresses = true
`, { mode: 0o600 });
    this.binary = binary;
    await this.startBridge();
    await this.#proxy();
    this.address = `http://127.0.0.1:${this.proxyPort}/ui/`;
  }

  async startBridge() {
    this.bridge = this.#run(this.binary, ["run", "--config", join(this.folder, "zkbridge.toml")]);
    await until("the bridge is live", async () => (await fetch(`http://127.0.0.1:${this.bridgePort}/readyz`, { signal: AbortSignal.timeout(ATTEMPT_MS) })).ok);
  }

  /** Waits until the journal has a record of this path. */
  recorded(path) {
    const url = `http://127.0.0.1:${this.bridgePort}/api/v1/sources/main/history?limit=1&path=${encodeURIComponent(path)}`;
    return until(`a record of ${path}`, async () => {
      const answer = await fetch(url, { headers: { authorization: `Bearer ${TOKEN}` }, signal: AbortSignal.timeout(ATTEMPT_MS) });
      return answer.ok && (await answer.json()).items.length > 0;
    });
  }

  async api(target) {
    const answer = await fetch(`http://127.0.0.1:${this.bridgePort}/api/v1${target}`, { headers: { authorization: `Bearer ${TOKEN}` } });
    if (!answer.ok) throw new Error(`${target}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** What 'zkbridge ui' prints, by way of the proxy. */
  async link() {
    const child = spawn(this.binary, ["ui", "--config", join(this.folder, "zkbridge.toml")]);
    let out = "";
    child.stdout.on("data", (data) => (out += data));
    const code = await new Promise((done) => child.on("close", done));
    if (code !== 0) throw new Error(`zkbridge ui ended with ${code}`);
    return out.trim().replace(`:${this.bridgePort}/`, `:${this.proxyPort}/`);
  }

  /** Cuts all connections of the browser. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close() {
    for (const client of this.#clients) client.close();
    this.cut();
    for (const server of this.#servers) server.close();
    for (const child of this.#children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = new Promise((done) => child.once("exit", done));
      child.kill("SIGKILL");
      await ended;
    }
    if (this.folder) await rm(this.folder, { recursive: true, force: true });
  }

  #run(command, args) {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    const keep = (data) => (this.log = ((this.log ?? "") + data).slice(-4_000));
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.on("error", keep);
    this.#children.push(child);
    return child;
  }

  /** A receiver that rejects everything of /config/bad. */
  async #receiver() {
    const server = createHttp((request, response) => {
      let body = "";
      request.on("data", (data) => (body += data));
      request.on("end", () => {
        const bad = body.includes("/config/bad");
        response.writeHead(bad ? 422 : 204).end(bad ? "no thanks: <b>bad</b>" : "");
      });
    });
    await new Promise((done) => server.listen(0, "127.0.0.1", done));
    this.#servers.push(server);
    this.receiverPort = server.address().port;
  }

  async #proxy() {
    const server = createServer((from) => {
      const to = connect(this.bridgePort, "127.0.0.1");
      for (const [one, other] of [[from, to], [to, from]]) {
        this.#sockets.add(one);
        one.on("close", () => { this.#sockets.delete(one); other.destroy(); });
        one.on("error", () => other.destroy());
        one.pipe(other);
      }
    });
    await new Promise((done) => server.listen(0, "127.0.0.1", done));
    this.#servers.push(server);
    this.proxyPort = server.address().port;
  }
}
