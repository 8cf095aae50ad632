// Bundles a module of src/lib for Node, which runs no TypeScript of version 20.
import { build } from "esbuild";
import { fileURLToPath } from "node:url";

export async function load(name) {
  const entry = fileURLToPath(new URL(`../src/lib/${name}.ts`, import.meta.url));
  const built = await build({ entryPoints: [entry], bundle: true, format: "esm", write: false });
  const text = Buffer.from(built.outputFiles[0].contents).toString("base64");
  return import(`data:text/javascript;base64,${text}`);
}
