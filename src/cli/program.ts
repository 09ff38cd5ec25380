#!/usr/bin/env node
/** The command line as a process. */
import { processIo } from './io.js';
import { main } from './main.js';
import { thisProgram } from './program-name.js';

const io = processIo();
io.end(await main(process.argv.slice(2), io, undefined, thisProgram()));
