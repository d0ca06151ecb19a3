package main

import (
	"log"
	"sync"

	"github.com/gorilla/websocket"
)

// outgoing is a message framed once for all who get it.
type outgoing struct {
	frame *websocket.PreparedMessage
	size  int
}

func prepare(message []byte) *outgoing {
	frame, err := websocket.NewPreparedMessage(websocket.TextMessage, message)
	if err != nil {
		log.Panicf("an uncompressed text message can always be framed: %v", err)
	}
	return &outgoing{frame: frame, size: len(message)}
}

// outbox holds what waits for one connection's writer.
type outbox struct {
	socket *websocket.Conn
	mutex  sync.Mutex
	filled sync.Cond
	// What waits, oldest first, and the sum of its sizes.
	waiting []*outgoing
	bytes   int
	closed  bool
}

func newOutbox(socket *websocket.Conn) *outbox {
	created := &outbox{socket: socket}
	created.filled.L = &created.mutex
	return created
}

// push adds a message and never blocks. Where the receiver is too far behind it closes the connection instead.
func (outbox *outbox) push(message *outgoing) {
	outbox.mutex.Lock()
	defer outbox.mutex.Unlock()
	if outbox.closed {
		return
	}
	if outbox.bytes+message.size > outboxBytesMax {
		outbox.closeLocked()
		return
	}
	outbox.waiting = append(outbox.waiting, message)
	outbox.bytes += message.size
	if len(outbox.waiting) == 1 {
		outbox.filled.Signal()
	}
}

func (outbox *outbox) close() {
	outbox.mutex.Lock()
	defer outbox.mutex.Unlock()
	outbox.closeLocked()
}

// closeLocked ends the reader and the writer. The caller holds outbox.mutex.
func (outbox *outbox) closeLocked() {
	if outbox.closed {
		return
	}
	outbox.closed = true
	outbox.waiting = nil
	outbox.filled.Signal()
	outbox.socket.Close()
}

// take waits for messages and takes all of them, or none when the outbox is closed.
func (outbox *outbox) take(emptied []*outgoing) []*outgoing {
	outbox.mutex.Lock()
	defer outbox.mutex.Unlock()
	for len(outbox.waiting) == 0 && !outbox.closed {
		outbox.filled.Wait()
	}
	taken := outbox.waiting
	outbox.waiting = emptied
	outbox.bytes = 0
	return taken
}

// write is the writer goroutine: it sends what waits until the connection ends.
func (outbox *outbox) write() {
	defer outbox.close()
	conn := outbox.socket.UnderlyingConn().(*gatheringConn)
	var messages []*outgoing
	for {
		messages = outbox.take(messages[:0])
		if len(messages) == 0 {
			return
		}
		if len(messages) == 1 {
			if outbox.socket.WritePreparedMessage(messages[0].frame) != nil {
				return
			}
		} else if outbox.writeGathered(conn, messages) != nil {
			return
		}
		for index := range messages {
			messages[index] = nil // The slice is used again and must not keep them alive.
		}
		if cap(messages) > 64 {
			messages = nil // A burst's memory is not kept.
		}
	}
}

func (outbox *outbox) writeGathered(conn *gatheringConn, messages []*outgoing) error {
	conn.startGathering()
	var err error
	for index := 0; index < len(messages) && err == nil; index++ {
		err = outbox.socket.WritePreparedMessage(messages[index].frame)
	}
	if flushed := conn.flush(); err == nil {
		err = flushed
	}
	return err
}
