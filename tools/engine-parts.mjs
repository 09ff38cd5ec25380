// esbuild plugins: what of the engines is compiled in, and how they reach Node's own modules.
import { readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';

/** Parts of MQTT.js that our engine never reaches, each with the little that stands in for it. */
const STAND_INS = {
  // Called at load time and on each packet: a logger that is switched off.
  debug: 'const off = Object.assign(() => {}, { enabled: false }); module.exports = () => off;',
  // Topic aliases are MQTT 5; our engine speaks 3.1.1.
  'lru-cache': "exports.LRUCache = class { constructor() { throw new Error('MQTT 5 is left out of this build'); } };",
  // Optional native parts of ws, which it looks for at load time; these words make it go on without.
  bufferutil: "throw new Error('left out of this build');",
  'utf-8-validate': "throw new Error('left out of this build');",
  // Timers of web workers; ours are handed in.
  'worker-timers': 'module.exports = {};',
  // PKCS#7 and PKCS#12, which the engine that makes certificates can also export to, and nobody asks for.
  '@peculiar/asn1-cms':
    "export const id_signedData = '1.2.840.113549.1.7.2'; export class ContentInfo {} export class SignerInfo {} export class Attribute {}",
  '@peculiar/asn1-pfx': 'export class PFX {}',
};

/** Leaves out what costs room and is never reached. WebSocket, SOCKS and the command line are not even imported. */
export const leaveOut = {
  name: 'leave-out',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: new RegExp(`^(${Object.keys(STAND_INS).join('|')})$`) }, ({ path }) => ({
      path,
      namespace: 'left-out',
    }));
    onLoad({ filter: /.*/, namespace: 'left-out' }, ({ path }) => ({ contents: STAND_INS[path], loader: 'js' }));
    // Its WebSockets are ours; message filters, and names of events for TypeScript, nobody asks for.
    onLoad({ filter: /[\\/]node_modules[\\/]rhea[\\/]lib[\\/](ws|filter|eventTypes)\.js$/ }, () => ({
      contents: 'module.exports = {};',
      loader: 'js',
    }));
    // rhea tells the console what it thinks of a peer, and nobody else.
    onLoad({ filter: /[\\/]node_modules[\\/]rhea[\\/]lib[\\/][^\\/]+\.js$/ }, ({ path }) => ({
      contents: `const console = { error() {}, warn() {}, log() {}, trace() {} };\n${withoutLog(path)}`,
      loader: 'js',
    }));
    onLoad({ filter: /[\\/]node_modules[\\/](mqtt[\\/]build[\\/]lib|mqtt-packet)[\\/].*\.js$/ }, ({ path }) => ({
      contents: withoutLog(path),
      loader: 'js',
    }));
    // The userland copy of Node's streams: 100 KB for what Node brings along.
    onResolve({ filter: /^readable-stream$/ }, ({ kind }) => nodeModule('node:stream', kind));
    // The server of ws, and its streams, which are not ours: see `net/websocket-stream.ts`.
    onLoad({ filter: /[\\/]node_modules[\\/]ws[\\/]lib[\\/](websocket-server|stream)\.js$/ }, () => ({
      contents: 'module.exports = undefined;',
      loader: 'js',
    }));
    // Compression, which is never offered, nor another extension: its peers ask for no more than its name.
    onLoad({ filter: /[\\/]node_modules[\\/]ws[\\/]lib[\\/]permessage-deflate\.js$/ }, () => ({
      contents: "module.exports = class { static extensionName = 'permessage-deflate'; };",
      loader: 'js',
    }));
    onLoad({ filter: /[\\/]node_modules[\\/]ws[\\/]lib[\\/]extension\.js$/ }, () => ({
      contents: 'module.exports = {};',
      loader: 'js',
    }));
    // MQTT.js reads its version from its manifest, which is larger than most of its modules.
    onLoad({ filter: /[\\/]node_modules[\\/]mqtt[\\/]package\.json$/ }, ({ path }) => {
      const { version } = JSON.parse(readFileSync(path, 'utf8'));
      return { contents: JSON.stringify({ version }), loader: 'json' };
    });
  },
};

/** A module without what it tells a logger that is switched off: statements of one line, whose arguments do nothing. */
function withoutLog(path) {
  const statement = /^([ \t]*)(?:log\.\w+|(?:(?:this|client)\.)?(?:log|debug))\((?!.*(?:=|\+\+|--)).*\);?[ \t]*$/gm;
  return readFileSync(path, 'utf8').replace(statement, '$1;');
}

/**
 * Turns `require('events')` of CommonJS engines into `import 'node:events'`: the chunks need no `require`, and so work
 * when somebody bundles them again, into ESM or CommonJS.
 */
export const nodeModules = {
  name: 'node-modules',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /.*/ }, ({ path, kind }) => {
      const name = path.replace(/\/$/, '');
      return isBuiltin(name) ? nodeModule(name.startsWith('node:') ? name : `node:${name}`, kind) : undefined;
    });
    onLoad({ filter: /.*/, namespace: 'node-module' }, ({ path }) => ({
      contents: `import all from '${path}'; module.exports = all;`,
      loader: 'js',
    }));
  },
};

function nodeModule(path, kind) {
  return kind === 'require-call' ? { path, namespace: 'node-module' } : { path, external: true };
}
