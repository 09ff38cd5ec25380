import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const floor = here('contestants/floor.cjs');
const library = here('contestants/library.mjs');
const microsoft = here('contestants/microsoft.cjs');
const commandLine = here('../../dist/dps-device.mjs');

/** What is measured: each task by several contestants, which run in this order, one after the other, again and again. */
export const TASKS = [
  {
    name: 'mqtt-key',
    title: 'MQTT, symmetric key',
    attestation: 'symmetricKey',
    transport: 'mqtt',
    contestants: [
      { name: 'node', title: 'bare `node -e 0`', args: () => ['-e', '0'], isIdle: true },
      { name: 'floor', title: 'floor, waits for every ack', args: () => [floor, 'ack'] },
      { name: 'pipelined', title: 'floor, pipelined', args: () => [floor, 'pipelined'] },
      { name: 'library', title: '**dps-device**', args: () => [library] },
      { name: 'cli', title: '**dps-device, command line**', args: argsOf(commandLine) },
      { name: 'microsoft', title: "Microsoft's packages", args: () => [microsoft] },
    ],
  },
  {
    name: 'mqtt-x509',
    title: 'MQTT, X.509',
    attestation: 'x509',
    transport: 'mqtt',
    contestants: [
      { name: 'floor', title: 'floor, waits for every ack', args: () => [floor, 'ack'] },
      { name: 'library', title: '**dps-device**', args: () => [library] },
      { name: 'cli', title: '**dps-device, command line**', args: argsOf(commandLine) },
      { name: 'microsoft', title: "Microsoft's packages", args: () => [microsoft] },
    ],
  },
  {
    name: 'https-key',
    title: 'HTTPS and a hub over MQTT, symmetric key',
    attestation: 'symmetricKey',
    transport: 'https',
    contestants: [
      { name: 'floor', title: 'floor, waits for every ack', args: () => [floor, 'ack'] },
      { name: 'library', title: '**dps-device**', args: () => [library] },
      { name: 'cli', title: '**dps-device, command line**', args: argsOf(commandLine) },
      { name: 'microsoft', title: "Microsoft's packages", args: () => [microsoft] },
    ],
  },
  {
    // Without a floor: nobody would encode AMQP by hand.
    name: 'amqp-key',
    title: 'AMQP and a hub over MQTT, symmetric key',
    attestation: 'symmetricKey',
    transport: 'amqp',
    contestants: [
      { name: 'library', title: '**dps-device**', args: () => [library] },
      { name: 'cli', title: '**dps-device, command line**', args: argsOf(commandLine) },
      { name: 'microsoft', title: "Microsoft's packages", args: () => [microsoft] },
    ],
  },
];

function argsOf(program) {
  return ({ configFile }) => [program, 'provision', '--config', configFile];
}
