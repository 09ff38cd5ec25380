import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { runInNewContext } from 'node:vm';
import { build } from 'esbuild';
import { getQuickJS, type QuickJSContext, Scope } from 'quickjs-emscripten';
import { beforeAll, describe, expect, it } from 'vitest';
import { FuzzRandom } from '../fuzz/fuzz-random.js';
import { jsonBytes } from '../fuzz/json-mutations.js';
import { mutateText } from '../fuzz/mutations.js';
import { DESIRED_PATCH, DPS_ANSWERS, randomReply, randomRetryAfter, TWIN } from '../fuzz/service-corpus.js';
import type { AnswerVector, Inputs } from './vectors.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BUILT_CORE = `${ROOT}dist/src/core/index.js`;

/** What ECMAScript itself defines, QuickJS's own error for its limits aside. */
const LANGUAGE =
  /^(globalThis|Infinity|NaN|undefined|eval|isFinite|isNaN|parseFloat|parseInt|decodeURI|decodeURIComponent|encodeURI|encodeURIComponent|escape|unescape|(Eval|Range|Reference|Syntax|Type|URI|Aggregate|Internal)?Error|Array|ArrayBuffer|SharedArrayBuffer|BigInt|(Big)?(Int|Uint)(8|16|32|64)(Clamped)?Array|Float(16|32|64)Array|Boolean|DataView|Date|FinalizationRegistry|Function|Iterator|JSON|Map|Math|Number|Object|Promise|Proxy|Reflect|RegExp|Set|String|Symbol|WeakMap|WeakRef|WeakSet)$/;

/** Time and chance are inputs of the core, so these must never be asked, though the language has them. */
const POISON = `
  Math.random = () => { throw new Error('the core asked for chance'); };
  Date = new Proxy(Date, {
    construct(target, given) {
      if (given.length === 0) throw new Error('the core asked for the time');
      return Reflect.construct(target, given);
    },
    apply() { throw new Error('the core asked for the time'); },
  });
  Date.now = () => { throw new Error('the core asked for the time'); };
`;

let script: string;
let quickJs: QuickJSContext;

beforeAll(async () => {
  if (!existsSync(BUILT_CORE)) throw new Error('dist/ is missing: npm run build');
  script = await bundle();
  quickJs = (await getQuickJS()).newContext();
  return () => quickJs.dispose();
});

describe('the built core', () => {
  it('is one script that imports nothing', () => {
    expect(script).not.toMatch(/\brequire\s*\(|\bimport\s*\(|\bimport\.meta\b|["']node:/);
  });

  it('loads in an engine that has nothing but the language', () => {
    const names: string[] = JSON.parse(evaluate('JSON.stringify(Object.getOwnPropertyNames(globalThis))'));
    expect(names.length).toBeGreaterThan(50);
    expect(names.filter((name) => !LANGUAGE.test(name))).toEqual([]);
    evaluate(`${POISON};${script};'loaded'`);
    const added: string[] = JSON.parse(evaluate('JSON.stringify(Object.getOwnPropertyNames(globalThis))'));
    expect(added.filter((name) => !names.includes(name))).toEqual(['runVectors']);
  });

  it('gives there what it gives in Node, for every vector', () => {
    const inputs = makeInputs();
    const here = JSON.parse(runHere(inputs)) as Record<string, unknown>;
    const there = JSON.parse(runThere(inputs)) as Record<string, unknown>;
    expect(Object.keys(there)).toEqual(Object.keys(here));
    for (const [name, result] of Object.entries(here)) expect(there[name], name).toEqual(result);
  });

  it('gives there what the references say', () => {
    const { sas, happy } = JSON.parse(runThere({ ...makeInputs(), answers: [] })) as {
      sas: { text: string; token: string };
      happy: { state: string; log: { type: string }[][] };
    };
    expect(Buffer.from(sas.text, 'base64').toString()).toBe('0ne00111111%2Fregistrations%2Fdev-1\n1663952627');
    expect(sas.token).toBe(
      'SharedAccessSignature sr=0ne00111111%2Fregistrations%2Fdev-1&sig=%2F%2F79%2FPv6%2Bfj39vX08%2FLx8O%2Fu7ezr6uno5%2Bbl5OPi4eA%3D&se=1663952627&skn=registration',
    );
    expect(happy.state).toBe('Done');
    expect(happy.log.at(-1)?.map(({ type }) => type)).toEqual([
      'ReportProgress',
      'ReportProgress',
      'ReportProgress',
      'CloseHub',
      'FinishJourney',
    ]);
  });
});

/** The built core and the vectors as one script, which leaves `runVectors` behind. */
async function bundle(): Promise<string> {
  const contents = `
    import * as core from ${JSON.stringify(BUILT_CORE)};
    import { runVectors } from './vectors.ts';
    globalThis.runVectors = (inputs) => runVectors(core, JSON.parse(inputs));
  `;
  const { outputFiles, metafile } = await build({
    stdin: { contents, resolveDir: fileURLToPath(new URL('.', import.meta.url)) },
    bundle: true,
    format: 'iife',
    platform: 'neutral',
    target: 'es2022',
    write: false,
    metafile: true,
    logLevel: 'error',
  });
  const outsiders = Object.keys(metafile.inputs).filter((file) => !/dist\/|vectors\.ts$|<stdin>/.test(file));
  expect(outsiders).toEqual([]);
  return outputFiles[0]?.text ?? '';
}

function evaluate(code: string): string {
  return textOf(() => quickJs.evalCode(code));
}

function runThere(inputs: Inputs): string {
  return Scope.withScope((scope) => {
    const run = scope.manage(quickJs.getProp(quickJs.global, 'runVectors'));
    const argument = scope.manage(quickJs.newString(JSON.stringify(inputs)));
    return textOf(() => quickJs.callFunction(run, quickJs.undefined, argument));
  });
}

/** What the engine gives, as text; what it throws as an error of ours, or the whole script would be in the report. */
function textOf(work: () => ReturnType<QuickJSContext['evalCode']>): string {
  const result = work();
  if (result.error === undefined) return result.value.consume((value) => quickJs.getString(value));
  const { name, message } = result.error.consume((error) => quickJs.dump(error)) as Error;
  throw new Error(`in QuickJS: ${name}: ${message}`);
}

function runHere(inputs: Inputs): string {
  return runInNewContext(`${script};globalThis.runVectors(${JSON.stringify(JSON.stringify(inputs))})`, {});
}

/** What the references have, and random variations of it. */
function makeInputs(): Inputs {
  const random = new FuzzRandom(1);
  const many = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make);
  const usual: AnswerVector[] = DPS_ANSWERS.map(([status, body]) => ({ status, body: base64(JSON.stringify(body)) }));
  return {
    texts: [
      '',
      'dev-1',
      'Grüße 👩‍🚀 漢字',
      'hub.example:8883',
      '[::1]:8883',
      '\ud800',
      'x'.repeat(200),
      ...many(100, () => plainText(random)),
    ],
    bytes: [
      base64(''),
      base64('Grüße'),
      '/w==',
      ...many(100, () => base64(jsonBytes(random, random.pick([TWIN, DESIRED_PATCH])))),
    ],
    answers: [...usual, ...many(150, () => randomAnswer(random))],
    topics: many(150, () => plain(mutateText(random, random.pick(TOPICS)))),
    retryAfters: [
      '0',
      '3',
      'Sun, 06 Nov 1994 08:49:37 GMT',
      'Sunday, 06-Nov-94 08:49:37 GMT',
      ...many(100, () => plain(randomRetryAfter(random))),
    ],
  };
}

const TOPICS: readonly string[] = [
  '$dps/registrations/res/202/?$rid=1&retry-after=3',
  '$iothub/twin/res/204/?$rid=a2&$version=10',
  '$iothub/twin/PATCH/properties/desired/?$version=5',
  '$iothub/methods/POST/reboot/?$rid=1',
  'devices/dev-1/messages/devicebound/%24.mid=m1&color=red&bare',
];

function randomAnswer(random: FuzzRandom): AnswerVector {
  const { kind: _, body, status, ...times } = randomReply(random);
  // JSON knows no NaN and no infinity.
  return { status: Number.isFinite(status) ? status : 0, body: base64(body), ...times };
}

function plainText(random: FuzzRandom): string {
  return plain(
    mutateText(random, random.pick(['dev-1', 'global.azure-devices-provisioning.net', 'a%20b', 'c2VjcmV0'])),
  );
}

/** Engines know different editions of Unicode, so which code points have no meaning is left out. */
function plain(text: string): string {
  return text.replace(/[\u0370-\uffff]/g, 'é').slice(0, 2_000);
}

function base64(content: string | Uint8Array): string {
  return Buffer.from(content).toString('base64');
}
