package main

import (
	"bufio"
	"net"
	"sync"
)

var gatherBuffers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 32<<10) }}

// gatheringConn is a net.Conn that holds back what is written between startGathering and flush, and writes it at
// once. It borrows a buffer for that time only, so an idle connection has none.
type gatheringConn struct {
	net.Conn
	// Guards buffer: the reader's goroutine writes answers to pings while the writer's gathers.
	mutex  sync.Mutex
	buffer *bufio.Writer
}

func (conn *gatheringConn) Write(bytes []byte) (int, error) {
	conn.mutex.Lock()
	defer conn.mutex.Unlock()
	if conn.buffer != nil {
		return conn.buffer.Write(bytes)
	}
	return conn.Conn.Write(bytes)
}

func (conn *gatheringConn) startGathering() {
	conn.mutex.Lock()
	defer conn.mutex.Unlock()
	conn.buffer = gatherBuffers.Get().(*bufio.Writer)
	conn.buffer.Reset(conn.Conn)
}

func (conn *gatheringConn) flush() error {
	conn.mutex.Lock()
	defer conn.mutex.Unlock()
	err := conn.buffer.Flush()
	conn.buffer.Reset(nil)
	gatherBuffers.Put(conn.buffer)
	conn.buffer = nil
	return err
}
