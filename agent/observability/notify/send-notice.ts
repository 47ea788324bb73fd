import type { Channel } from '../../config/notify.ts';
import { sendRequest } from '../../outbound/http.ts';
import { formatText, formatTitle, requestFor } from './channels.ts';
import { formatSubject, sendMail } from './email.ts';
import type { Notice } from './notice.ts';
import { applyTemplate } from './template.ts';

const TIMEOUT_MS = 10_000;

/** The channel rejected the notice; a repeat would be rejected too. */
export class ChannelRejected extends Error {}

/** The channel is overloaded or broken and asks for a pause. */
export class RetryLater extends Error {
  readonly seconds: number;

  constructor(status: number, seconds: number) {
    super(describeStatus(status));
    this.seconds = seconds;
  }
}

/** Sends a notice once. Throws {@link ChannelRejected}, {@link RetryLater} or another Error; no message holds an address. */
export async function sendNotice(channel: Channel, event: Notice): Promise<void> {
  const notice = applyTemplate('template' in channel ? channel.template : undefined, event);
  if (channel.type === 'email') return sendByMail(channel, notice);
  const { status, retryAfter } = await sendRequest(requestFor(channel, notice), TIMEOUT_MS);
  if (status < 300) return;
  if (status === 429 || status >= 500 || status === 408) throw new RetryLater(status, retryAfter ?? 0);
  throw new ChannelRejected(describeStatus(status));
}

async function sendByMail(channel: Extract<Channel, { type: 'email' }>, notice: Notice): Promise<void> {
  try {
    await sendMail(channel, { subject: formatSubject(formatTitle(notice)), text: formatText(notice) }, TIMEOUT_MS);
  } catch (error) {
    const { responseCode, code } = error as { responseCode?: number; code?: string };
    if (responseCode === undefined) throw new Error(code ?? 'the mail server is not reachable');
    const message = describeStatus(responseCode);
    throw responseCode >= 500 ? new ChannelRejected(message) : new Error(message);
  }
}

function describeStatus(status: number): string {
  return `it answered ${status}`;
}
