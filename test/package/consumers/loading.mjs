// Prints what a registration over HTTPS does, and each file of the package when it is loaded, in their order.
import { subscribe } from 'node:diagnostics_channel';
import { readFileSync, writeSync } from 'node:fs';
import { register } from 'node:module';

const HOOK = `
  import { writeSync } from 'node:fs';
  export function load(url, context, next) {
    if (url.includes('/dps-device/dist/')) writeSync(1, 'load ' + url.slice(url.indexOf('/dist/') + 1) + '\\n');
    return next(url, context);
  }`;
register(`data:text/javascript,${encodeURIComponent(HOOK)}`);

const { provision } = await import('dps-device');
const { idScope, ca, endpoints, files } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const hsm = { kind: 'symmetricKey', registrationId: 'sensor-1', key: { file: files.key } };
// The channel tells at once, before what follows from an event is done; the async iterable tells a little later.
subscribe('dps-device:progress', ({ type }) => writeSync(1, `event ${type}\n`));
await provision({ idScope, ca, endpoint: endpoints.https, transport: 'https', hsm });
