import type { Event } from '../../protocol/event.ts';
import type { Receipt } from '../../protocol/receipt.ts';
import type { Admitted } from '../admission/admitted.ts';
import type { Plan } from '../plan/plan.ts';

/** Somebody who wants to know what runs do: metrics, the audit, notices. Called after the store has it. What throws because a disk is full is called again. */
export interface Watcher {
  begun?(run: string, admitted: Admitted): void;
  /** An earlier agent had begun it. */
  resumed?(run: string, admitted: Admitted): void;
  cancelled?(run: string, by: { trust: string; keyId: string; actor: string; address: string }): void;
  planned?(run: string, document: number, plan: Plan, admitted: Admitted): void;
  happened?(run: string, event: Event, admitted: Admitted): void;
  ended?(run: string, receipt: Receipt, admitted: Admitted): void;
}
