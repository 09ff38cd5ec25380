#!/usr/bin/env node
/** The command line of the one file that is copied to a device: the same as `main.ts`, without the emulator. */
import { processIo } from './io.js';
import { type CommandDoors, main } from './main.js';
import { thisProgram } from './program-name.js';

const COMMANDS: CommandDoors = {
  provision: {
    summary: 'takes the device from its ID scope and identity to its hub and initial twin',
    load: async () => (await import('./provision.js')).provisionCommand(),
  },
  run: {
    summary: 'keeps the device provisioned until it is told to end',
    load: async () => (await import('./run.js')).runCommand(),
  },
  status: {
    summary: 'shows what the device remembers of its place',
    load: async () => (await import('./record-commands.js')).statusCommand(),
  },
  forget: {
    summary: 'drops what the device remembers',
    load: async () => (await import('./record-commands.js')).forgetCommand(),
  },
  doctor: {
    summary: 'looks for what would keep the device from being provisioned',
    load: async () => (await import('./doctor.js')).doctorCommand(),
  },
};

const io = processIo();
io.end(await main(process.argv.slice(2), io, COMMANDS, thisProgram()));
