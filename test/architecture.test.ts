import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { PACKAGE_VERSION } from '../src/version.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** What the linter's import rules cannot say. */
function sources(...folders: readonly string[]): { path: string; text: string }[] {
  return folders.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(ts|cts)$/.test(name))
      .map((name) => join(ROOT, folder, name))
      .map((path) => ({ path: relative(ROOT, path), text: readFileSync(path, 'utf8') })),
  );
}

const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');

describe('the house', () => {
  it('opens sockets in net/, in TPM links and in the emulator only', () => {
    // file-start.ts reads pipes (process substitution) through Node's pipe handles, which share the module.
    const rooms = /^(src\/net\/|src\/emulator\/|hsm\/tpm2\/links\/|src\/file-start\.ts)/;
    const files = sources('src', 'hsm');
    expect(files.length).toBeGreaterThan(50);
    const offenders = files
      .filter(({ path }) => !rooms.test(path))
      .filter(({ text }) => /^import (?!type\b|\{ isIP \})[^;]*from 'node:(net|tls|dgram|http2)'/m.test(text))
      .map(({ path }) => path);
    expect(offenders).toEqual([]);
  });

  it('keeps time, chance and the host out of the core', () => {
    const host =
      /\b(Date\.now|new Date\(\)|Math\.random|performance\.|process\.|Buffer\b|TextEncoder|TextDecoder|setTimeout|setInterval|queueMicrotask|console\.|AbortController)/;
    const offenders = sources('src/core').flatMap(({ path, text }) => {
      const found = withoutComments(text).match(host);
      return found === null ? [] : [`${path}: ${found[0]}`];
    });
    expect(offenders).toEqual([]);
  });

  it('waits and reads clocks in one place', () => {
    // The two named last only fall back to the wall clock when the caller brings none.
    const places = /^(src\/system-clock|src\/emulator\/pki|hsm\/x509-file)\.ts$/;
    const offenders = sources('src', 'hsm')
      .filter(({ path }) => !places.test(path))
      .filter(({ text }) => /\b(Date\.now\(|performance\.now\(|setTimeout\(|setInterval\()/.test(withoutComments(text)))
      .map(({ path }) => path);
    expect(offenders).toEqual([]);
  });

  it('never lets an option weaken TLS on the device side', () => {
    const offenders = sources('src', 'hsm')
      .filter(({ path }) => !path.startsWith('src/emulator/'))
      .filter(({ text }) =>
        /rejectUnauthorized: (?!true)|checkServerIdentity:\s*\(\)\s*=>|NODE_TLS_REJECT_UNAUTHORIZED/.test(
          withoutComments(text),
        ),
      )
      .map(({ path }) => path);
    expect(offenders).toEqual([]);
  });

  it('knows its own version', () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    expect(PACKAGE_VERSION).toBe(version);
  });
});
