import { closeSync, openSync, readSync } from 'node:fs';
import { type Event, type EventBody, encodeEvent, type Frame } from '../../protocol/event.ts';
import { toReadable } from '../system/hidden-text.ts';

/** A stored event. The bytes of an output event are in `file`, a step's log. */
export interface EventRow {
  n: number;
  at: string;
  body: string;
  file: string | null;
  offset: number;
  length: number;
}

/** Encodes a stored event again: the same row always makes the same frame. */
export function readFrame(row: EventRow): Frame {
  const event = { type: 'event', n: row.n, at: row.at, ...(JSON.parse(row.body) as EventBody) } as Event;
  return encodeEvent(event, row.file === null ? undefined : readOutput(row.file, row.offset, row.length));
}

function readOutput(file: string, offset: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  const descriptor = openSync(file, 'r');
  try {
    let read = 0;
    while (read < length) {
      const count = readSync(descriptor, bytes, read, length - read, offset + read);
      if (count === 0)
        throw new Error(`${file} is shorter than its record (${offset + read} of ${offset + length} bytes)`);
      read += count;
    }
  } finally {
    closeSync(descriptor);
  }
  return toReadable(bytes);
}
