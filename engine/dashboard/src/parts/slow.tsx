// Consumers for whom most waits, and their disconnection.

import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { disconnect } from "../activity/api.ts";
import type { SlowConsumer } from "../activity/contract.ts";
import { activity, askNow } from "../activity/feed.ts";
import { bytes, text } from "../format.ts";
import { type Heading, Table } from "./table.tsx";

const HEADINGS: Heading[] = [
  { text: "User" },
  { text: "Connection", isExtra: true },
  { text: "Shard", isNumber: true, isExtra: true },
  { text: "Waiting", isNumber: true },
  { text: "Action", isHidden: true },
];

export function SlowConsumers({ rowsMax }: { rowsMax: number }) {
  const asked = useSignal<SlowConsumer | null>(null);
  const outcome = useSignal("");
  const told = useRef<HTMLParagraphElement>(null);
  const consumers = activity.value?.slow_consumers.slice(0, rowsMax) ?? [];

  async function confirmed(consumer: SlowConsumer) {
    // The row and its button will be gone.
    told.current?.focus();
    try {
      await disconnect(consumer.id);
      outcome.value = `${consumer.user} (${consumer.id}) was disconnected.`;
    } catch (error) {
      outcome.value = `${consumer.user} (${consumer.id}) was not disconnected: ${(error as Error).message}.`;
    }
    askNow();
  }

  return (
    <>
      <Table
        label="Slow consumers"
        headings={HEADINGS}
        empty="Nobody is slow: nothing waits to be sent."
        rows={consumers.map((consumer) => (
          <tr key={consumer.id}>
            <th scope="row">{consumer.user}</th>
            <td class="extra code">{consumer.id}</td>
            <td class="number extra">{consumer.shard}</td>
            <td class="number">{text(bytes(consumer.outbox_bytes))}</td>
            <td class="action">
              <button
                type="button"
                class="quiet"
                aria-label={`Disconnect ${consumer.user}, ${consumer.id}`}
                onClick={() => {
                  asked.value = consumer;
                }}
              >
                Disconnect…
              </button>
            </td>
          </tr>
        ))}
      />
      <p role="status" class="outcome" ref={told} tabIndex={-1}>
        {outcome.value}
      </p>
      {asked.value !== null && (
        <Confirmation
          consumer={asked.value}
          onConfirm={confirmed}
          onClose={() => {
            asked.value = null;
          }}
        />
      )}
    </>
  );
}

interface ConfirmationProps {
  consumer: SlowConsumer;
  onConfirm: (consumer: SlowConsumer) => void;
  onClose: () => void;
}

function Confirmation({ consumer, onConfirm, onClose }: ConfirmationProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => dialog.current?.showModal(), []);

  // Closed, and only then taken away: so the focus goes back to where it was.
  function close() {
    dialog.current?.close();
  }

  function confirm() {
    close();
    onConfirm(consumer);
  }

  return (
    <dialog ref={dialog} aria-labelledby="confirmation-title" onClose={onClose}>
      <h2 id="confirmation-title">Disconnect {consumer.user}?</h2>
      <p>
        Connection <span class="code">{consumer.id}</span> on shard {consumer.shard} has{" "}
        {text(bytes(consumer.outbox_bytes))} waiting, which are dropped. It is closed with code 4403; its client may
        connect again.
      </p>
      <div class="buttons">
        <button type="button" onClick={close}>
          Cancel
        </button>
        <button type="button" class="danger" onClick={confirm}>
          Disconnect
        </button>
      </div>
    </dialog>
  );
}
