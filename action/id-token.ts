import * as core from '@actions/core';
import { actionRefusals } from './refusals.ts';

/** Asks GitHub for a token for the audience; the log masks it. Throws `Refused` `id-token-unavailable`. */
export async function idToken(audience: string): Promise<string> {
  try {
    return await core.getIDToken(audience);
  } catch (error) {
    throw actionRefusals.idTokenUnavailable(error instanceof Error ? error.message : String(error));
  }
}
