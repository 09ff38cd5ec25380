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
};

process.exitCode = await main(process.argv.slice(2), processIo(), COMMANDS, thisProgram());
