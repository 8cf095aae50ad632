// Decoders of values. Their results are texts: the page puts them into text nodes and never runs or parses them as HTML.

import type { Data } from "./types";

export interface Decoded {
  /** The form, in words. */
  form: string;
  text: string;
  /** Whether the form is a guess. */
  perhaps?: boolean;
}

/** Bytes that an unpacked gzip value may have. */
export const UNPACKED_BYTES_MAX = 4 << 20;
/** Bytes that a hex view shows. */
export const HEX_BYTES_MAX = 16 << 10;
const PROTOBUF_DEPTH_MAX = 16;
const PROTOBUF_FIELDS_MAX = 2000;
const JSON_DEPTH_MAX = 200;

export function bytesOf(data: Data): Uint8Array {
  if (data.encoding === "base64") {
    const text = atob(String(data.value));
    return Uint8Array.from(text, (char) => char.charCodeAt(0));
  }
  return new TextEncoder().encode(data.encoding === "json" ? JSON.stringify(data.value) : String(data.value));
}

/** The value as a text: the first form that fits. */
export async function decode(data: Data): Promise<Decoded> {
  if (data.masked) return { form: "masked", text: String(data.value) };
  if (data.size === 0) return { form: "no data", text: "" };
  if (data.encoding === "json") return { form: "JSON", text: prettyJson(JSON.stringify(data.value)) ?? "" };
  if (data.encoding === "utf8") return decodeText(String(data.value));
  return decodeBytes(bytesOf(data));
}

export async function decodeBytes(bytes: Uint8Array): Promise<Decoded> {
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) {
    const unpacked = await gunzip(bytes);
    if (unpacked) {
      const inner = await decodeUnpacked(unpacked);
      return { ...inner, form: `gzip: ${inner.form}` };
    }
    return { form: "gzip, damaged, cut or too large to unpack here", text: hex(bytes) };
  }
  return decodeUnpacked(bytes);
}

async function decodeUnpacked(bytes: Uint8Array): Promise<Decoded> {
  const text = asText(bytes);
  if (text !== null) return decodeText(text);
  if (bytes[0] === 0xac && bytes[1] === 0xed) {
    return { form: "Java serialization, shown as hex and never read", text: hex(bytes) };
  }
  if (startsWith(bytes, "PBUF")) {
    const fields = protobuf(bytes.subarray(4));
    if (fields !== null) return { form: "HBase protobuf (PBUF)", text: fields };
  }
  // HBase writes 0xff, the length of an id, the id, and then PBUF.
  if (bytes[0] === 0xff && bytes.length > 9) {
    const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(1);
    const rest = bytes.subarray(5 + length);
    if (length < 1024 && startsWith(rest, "PBUF")) {
      const fields = protobuf(rest.subarray(4));
      if (fields !== null) return { form: "HBase protobuf (PBUF)", text: fields };
    }
  }
  const fields = protobuf(bytes);
  if (fields !== null) return { form: "protobuf", text: fields, perhaps: true };
  return { form: "bytes", text: hex(bytes) };
}

export function decodeText(text: string): Decoded {
  const start = text.trimStart();
  if (/^[[{"\d\-tfn]/.test(start)) {
    const json = prettyJson(text);
    if (json !== null) return { form: "JSON", text: json };
  }
  if (/^<(\?xml|[A-Za-z!])/.test(start) && start.trimEnd().endsWith(">")) return { form: "XML", text };
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "" && !/^\s*[#!]/.test(line));
  if (lines.length > 0 && lines.every((line) => /^\s*[\w.\-]+\s*[=:]/.test(line))) return { form: "properties", text };
  return { form: "text", text };
}

/** JSON with indentation; every number, string and escape keeps its own characters. Null if it is not JSON. */
export function prettyJson(text: string): string | null {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  let out = "";
  let depth = 0;
  const line = () => "\n" + "  ".repeat(depth);
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!;
    if (char === '"') {
      const from = at++;
      while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
      out += text.slice(from, at + 1);
    } else if (char === "{" || char === "[") {
      const close = /^\s*[}\]]/.exec(text.slice(at + 1, at + 100));
      if (close) {
        out += char + close[0].trim();
        at += close[0].length;
        continue;
      }
      depth++;
      if (depth > JSON_DEPTH_MAX) return text;
      out += char + line();
    } else if (char === "}" || char === "]") {
      depth--;
      out += line() + char;
    } else if (char === ",") out += "," + line();
    else if (char === ":") out += ": ";
    else if (!/\s/.test(char)) out += char;
  }
  return out;
}

/** The fields by wire format, or null if the bytes are no protobuf message. */
export function protobuf(bytes: Uint8Array): string | null {
  const budget = { fields: PROTOBUF_FIELDS_MAX };
  const lines = message(bytes, 0, budget);
  return lines === null || lines.length === 0 ? null : lines.join("\n");
}

function message(bytes: Uint8Array, depth: number, budget: { fields: number }): string[] | null {
  if (depth > PROTOBUF_DEPTH_MAX) return null;
  const lines: string[] = [];
  const pad = "  ".repeat(depth);
  let at = 0;
  const varint = (): bigint | null => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) return null;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return null;
  };
  while (at < bytes.length) {
    if (budget.fields-- <= 0) return null;
    const key = varint();
    if (key === null) return null;
    const field = key >> 3n;
    if (field === 0n || field > 536870911n) return null;
    const wire = Number(key & 7n);
    if (wire === 0) {
      const value = varint();
      if (value === null) return null;
      lines.push(`${pad}${field}: ${value}`);
    } else if (wire === 1 || wire === 5) {
      const width = wire === 1 ? 8 : 4;
      if (at + width > bytes.length) return null;
      const part = bytes.slice(at, at + width).reverse();
      lines.push(`${pad}${field}: 0x${[...part].map(hexByte).join("")}`);
      at += width;
    } else if (wire === 2) {
      const length = varint();
      if (length === null || length > BigInt(bytes.length - at)) return null;
      const part = bytes.subarray(at, at + Number(length));
      at += Number(length);
      const text = asText(part);
      const inner = text === null || part.length > 64 ? message(part, depth + 1, budget) : null;
      if (inner !== null && inner.length > 0) lines.push(`${pad}${field} {`, ...inner, `${pad}}`);
      else if (text !== null) lines.push(`${pad}${field}: ${JSON.stringify(text)}`);
      else lines.push(`${pad}${field}: ${[...part.subarray(0, 64)].map(hexByte).join("")}${part.length > 64 ? "…" : ""}`);
    } else return null;
  }
  return lines;
}

export function hex(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < Math.min(bytes.length, HEX_BYTES_MAX); at += 16) {
    const part = [...bytes.subarray(at, at + 16)];
    const text = part.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "."));
    lines.push(`${at.toString(16).padStart(6, "0")}  ${part.map(hexByte).join(" ").padEnd(47)}  ${text.join("")}`);
  }
  if (bytes.length > HEX_BYTES_MAX) lines.push(`… ${bytes.length - HEX_BYTES_MAX} more bytes`);
  return lines.join("\n");
}

/** A text whose control and direction characters are visible, so that it cannot pretend to be another one. */
export function visible(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (char) => {
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

const hexByte = (byte: number) => byte.toString(16).padStart(2, "0");

function startsWith(bytes: Uint8Array, text: string): boolean {
  return [...text].every((char, at) => bytes[at] === char.charCodeAt(0));
}

function asText(bytes: Uint8Array): string | null {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

async function gunzip(bytes: Uint8Array): Promise<Uint8Array | null> {
  try {
    const stream = new Blob([bytes.slice()]).stream().pipeThrough(new DecompressionStream("gzip"));
    const reader = stream.getReader();
    const parts: Uint8Array[] = [];
    let size = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      size += value.length;
      if (size > UNPACKED_BYTES_MAX) {
        void reader.cancel();
        return null;
      }
      parts.push(value);
    }
    const whole = new Uint8Array(size);
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  } catch {
    return null;
  }
}
